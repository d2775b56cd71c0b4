"""Payments and blocks of a test network: what a wallet and a miner make. It talks to no node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from embit.bip32 import HDKey
from embit.hashes import double_sha256
from embit.script import Script, Witness
from embit.transaction import Transaction, TransactionInput, TransactionOutput

BITS = bytes.fromhex("ffff7f20")  # the easiest there is: every second nonce will do
NO_COIN, ANY = bytes(32), 0xFFFFFFFF
REPLACEABLE = 0xFFFFFFFD


class Coin(NamedTuple):
    txid: str
    vout: int
    sats: int
    script: bytes  # witness version 0, a key's


def payment(coins: Sequence[Coin], outputs: Sequence[tuple[bytes, int]], keys: Mapping[bytes, HDKey]) -> Transaction:
    """Spends all of `coins` to `outputs` of (script, sats), signed with the scripts' keys; the rest is fee."""
    tx = Transaction(
        vin=[TransactionInput(bytes.fromhex(c.txid), c.vout, sequence=REPLACEABLE) for c in coins],
        vout=[TransactionOutput(sats, Script(script)) for script, sats in outputs],
    )
    for i, coin in enumerate(coins):
        key = keys[coin.script]
        digest = tx.sighash_segwit(i, Script(b"\x76\xa9\x14" + coin.script[2:] + b"\x88\xac"), coin.sats)
        tx.vin[i].witness = Witness([key.sign(digest).serialize() + b"\x01", key.sec()])
    return tx


def block(
    parent: str, clock: int, version: int, txs: Sequence[Transaction], work: Callable[[bytes], bytes]
) -> tuple[str, str]:
    """Hash (as nodes show it) and raw hex of a block upon `parent`, at `clock` seconds. `txs` begins with the coinbase;
    `work` is the network's hash of a header."""
    root = merkle_root([tx.txid()[::-1] for tx in txs])
    head = version.to_bytes(4, "little") + bytes.fromhex(parent)[::-1] + root + clock.to_bytes(4, "little") + BITS
    nonce = next(n for n in range(1 << 20) if work(head + n.to_bytes(4, "little"))[31] <= 0x7F)
    header = head + nonce.to_bytes(4, "little")
    count = bytes([len(txs)]) if len(txs) < 0xFD else b"\xfd" + len(txs).to_bytes(2, "little")
    return double_sha256(header)[::-1].hex(), (header + count + b"".join(tx.serialize() for tx in txs)).hex()


def coinbase(height: int, script: bytes, sats: int, txs: Sequence[Transaction]) -> Transaction:
    """Pays `sats` to `script` and commits to the witnesses of `txs`, the block's other transactions."""
    digits = height.to_bytes(height.bit_length() // 8 + 1, "little")
    push = bytes([0x50 + height]) if height <= 16 else bytes([len(digits)]) + digits
    signature = Script(push + b"\x08" + os.urandom(8))  # so that no two blocks of one height are the same
    tx = Transaction(
        vin=[TransactionInput(NO_COIN, ANY, script_sig=signature)], vout=[TransactionOutput(sats, Script(script))]
    )
    if any(other.is_segwit for other in txs):
        root = merkle_root([bytes(32), *(double_sha256(other.serialize()) for other in txs)])
        commitment = b"\x6a\x24\xaa\x21\xa9\xed" + double_sha256(root + bytes(32))
        tx.vout.append(TransactionOutput(0, Script(commitment)))
        tx.vin[0].witness = Witness([bytes(32)])
    return tx


def merkle_root(level: list[bytes]) -> bytes:
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [double_sha256(a + b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]
