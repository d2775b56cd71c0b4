"""Addresses from an account's extended public key: BIP-84, receiving branch, `0/index` below the key.

It needs the extra `bitcoin`. Private keys are refused, and which index comes next is the caller's to remember."""

from __future__ import annotations

from .addresses import Chain, segwit_address

HARDENED = 1 << 31
PLAIN = 0x0488B21E  # xpub: the form that the library reads
# What a key for such addresses may begin with (SLIP-132, and what the chains' own wallets write).
MAINNET = {"bitcoin": (PLAIN, 0x04B24746), "litecoin": (PLAIN, 0x04B24746, 0x019DA462)}  # xpub, zpub, Ltub
TEST_NETWORKS = (0x043587CF, 0x045F1CF6, 0x0420BD3A, 0x0436F6E1)  # tpub, vpub, spub, ttub


def derive(xpub: str, index: int, chain: Chain) -> str:
    """The account's receiving address number `index`, witness version 0.

    Raises ValueError with a sentence that never repeats the key: malformed, private, for another network or another
    kind of address, an index out of range. Raises ImportError without the extra."""
    from embit import base58, hashes
    from embit.base import EmbitError
    from embit.bip32 import HDKey

    if not 0 <= index < HARDENED:
        raise ValueError(f"index {index} is not between 0 and {HARDENED - 1}")
    try:
        raw = base58.decode_check(xpub[:120])
    except ValueError:
        raise ValueError("this is not an extended public key: its characters or its checksum are wrong") from None
    if len(raw) != 78:
        raise ValueError("this is not an extended public key: its length is wrong")
    if raw[45] == 0:
        raise ValueError("this is an extended PRIVATE key: give the public one, and regard the private one as exposed")
    if int.from_bytes(raw[:4], "big") not in (MAINNET[chain.chain] if chain.network == "mainnet" else TEST_NETWORKS):
        raise ValueError(f"this extended public key is not for witness addresses of {chain.name}")
    try:
        key = HDKey.parse(PLAIN.to_bytes(4, "big") + raw[4:]).derive([0, index])
    except (EmbitError, ValueError):
        raise ValueError("this is not an extended public key: no point of the curve, or no place in a tree") from None
    return segwit_address(chain.hrp, 0, hashes.hash160(key.sec()))
