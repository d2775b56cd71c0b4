"""A Cardano chain for tests: a tree of blocks over the ledger of `koios_ledger`, and wallets that pay on it.

`Chain` mines what the ledger accepts, forks and rolls back; `Wallet` builds and signs with pycardano. Times are POSIX
seconds of a clock that the test sets, amounts are lovelace, the network is preview. No nodes, no stake, no rewards, and
Plutus scripts only as far as a payment whose script fails needs one.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

import cbor2
import pycardano as pc

from bursar.testing.fakes.koios_ledger import Asset, Ledger, Out, Ref, Refused, Tx, read_tx

SYSTEM_START = 1_666_656_000  # the preview network's; a slot is a second
BLOCK_SECONDS = 20
FAUCET_LOVELACE = 10**15
MIN_CHANGE = 1_500_000
MAIN = "main"
FAILING_SCRIPT = pc.PlutusV2Script(cbor2.dumps(bytes.fromhex("01000061")))  # the program `error`


def digest(*parts: object, size: int = 32) -> bytes:
    """blake2b over the parts, as text or as the bytes they are: for hashes, keys and every throw of the dice."""
    return blake2b(b"|".join(p if isinstance(p, bytes) else str(p).encode() for p in parts), digest_size=size).digest()


@dataclass(frozen=True, eq=False)
class Block:
    """One block; `state` is the ledger's snapshot after it."""

    height: int
    slot: int
    hash: str
    parent: Block | None = field(repr=False)
    txs: tuple[Tx, ...] = field(repr=False)
    state: int = field(repr=False)

    @property
    def time(self) -> int:
        return SYSTEM_START + self.slot

    def up(self, depth: int) -> Block:
        """The block `depth` below this one, at most the first."""
        block = self
        while depth > 0 and block.parent:
            block, depth = block.parent, depth - 1
        return block

    def path(self) -> Iterator[Block]:
        """This block and all below it."""
        block: Block | None = self
        while block:
            yield block
            block = block.parent


@dataclass
class Clock:
    """The time of the test's world; only the test and mining on the main branch move it."""

    now: float


class Chain:
    """A tree of blocks with named tips, and the transactions that wait for the main one.

    Everything follows from `seed` and the order of the calls. `lock` is held by whoever reads more than one thing.
    """

    def __init__(self, ledger: Ledger, *, seed: int, now: float = 1_700_000_000) -> None:
        self.ledger, self.seed, self.clock, self.lock = ledger, seed, Clock(now), threading.RLock()
        self._mined, self.waiting = 0, dict[str, bytes]()
        self.faucet = Wallet(self, "faucet")
        state = ledger.open(self.faucet.address, FAUCET_LOVELACE)
        made = tuple(ledger.utxos(state).values())
        first = Tx("00" * 32, raw=b"", fee=0, valid=True, made=made, used=(), minted={})
        self.tips = {MAIN: self._block(None, self.slot(), (first,), state)}
        self.pending = state

    @property
    def tip(self) -> Block:
        return self.tips[MAIN]

    def submit(self, raw: bytes) -> str:
        """Put a signed transaction among those that wait; its id. Raises Refused in the ledger's words."""
        with self.lock:
            state, [(txid, error)] = self.ledger.apply(self.pending, self.slot(), [raw])
            if error:
                raise Refused(error)
            self.pending, self.waiting[txid] = state, raw
            return txid

    def mine(self, blocks: int = 1, *, branch: str = MAIN, take: Collection[str] | None = None) -> Block:
        """Mine blocks, 20 s apart on the main branch; the new tip. Each takes whatever waits, or of that only `take`.

        A side branch leaves the clock and the waiting transactions as they are.
        """
        with self.lock:
            for _ in range(blocks):
                self.clock.now += BLOCK_SECONDS if branch == MAIN else 0
                parent = self.tips[branch]
                slot = max(self.slot(), parent.slot + 1)
                raws = [raw for txid, raw in self.waiting.items() if take is None or txid in take]
                state, verdicts = self.ledger.apply(parent.state, slot, raws)
                txs = tuple(read_tx(v.txid, raw) for v, raw in zip(verdicts, raws, strict=True) if not v.error)
                self.tips[branch] = self._block(parent, slot, txs, state)
                if branch == MAIN:
                    self._settle({tx.id for tx in txs})
            return self.tips[branch]

    def fork(self, branch: str, depth: int) -> Block:
        """A branch that begins `depth` blocks below the main tip."""
        with self.lock:
            self.tips[branch] = self.tip.up(depth)
            return self.tips[branch]

    def rollback(self, depth: int, *, drop: Collection[str] = ()) -> Block:
        """Take the newest `depth` blocks off the main branch; the new tip. Their transactions but `drop` wait again."""
        return self.switch(self.tip.up(depth), drop=drop)

    def switch(self, block: Block, *, drop: Collection[str] = ()) -> Block:
        """Make `block` the main tip, also one that was left before: it comes back as it was."""
        with self.lock:
            kept = {b.hash for b in block.path()}
            left = [b for b in self.tip.path() if b.hash not in kept]
            self.tips[MAIN] = block
            self.waiting = {tx.id: tx.raw for b in reversed(left) for tx in b.txs} | self.waiting
            self._settle(drop)
            return block

    def slot(self) -> int:
        """The slot of the clock."""
        return int(self.clock.now) - SYSTEM_START

    def _block(self, parent: Block | None, slot: int, txs: tuple[Tx, ...], state: int) -> Block:
        self._mined += 1
        salt = f"{self.seed}:{self._mined}"  # or two empty blocks of one slot would be one block
        name = digest(parent.hash if parent else "", slot, salt, *(tx.id for tx in txs)).hex()
        return Block(parent.height + 1 if parent else 0, slot, name, parent, txs, state)

    def _settle(self, gone: Collection[str]) -> None:
        """Judge what waits on top of the main tip, less `gone`; what is refused there is forgotten."""
        raws = [raw for txid, raw in self.waiting.items() if txid not in gone]
        self.pending, verdicts = self.ledger.apply(self.tip.state, max(self.slot(), self.tip.slot), raws)
        self.waiting = {v.txid: raw for v, raw in zip(verdicts, raws, strict=True) if not v.error}


class Pay(NamedTuple):
    """One output to make."""

    address: str
    lovelace: int
    assets: Mapping[Asset, int] = MappingProxyType({})


class Wallet:
    """One payment key and one stake key, from the chain's seed and `name`; what it holds is what the ledger says.

    `address` is a base address. Coins are taken largest first from the state after all that waits, so that it can pay
    many times in a block.
    """

    def __init__(self, chain: Chain, name: str) -> None:
        self.chain, self.name = chain, name
        self._key = pc.PaymentSigningKey.from_primitive(digest(chain.seed, name, "payment"))
        self._public = self._key.to_verification_key()
        self._stake = pc.StakeSigningKey.from_primitive(digest(chain.seed, name, "stake")).to_verification_key().hash()
        self._policy = pc.ScriptPubkey(self._public.hash())
        self.cred = self._public.hash().payload.hex()
        self.policy = self._policy.hash().payload.hex()
        self.address = self.address_staked_by(self)

    def address_staked_by(self, other: Wallet) -> str:
        """Our payment key with another wallet's stake part: ours to spend, and another string."""
        return str(pc.Address(self._public.hash(), other._stake, network=pc.Network.TESTNET))

    def holds(self) -> dict[Ref, Out]:
        """Our unspent outputs, those of waiting transactions included."""
        return self.chain.ledger.utxos(self.chain.pending, self.address)

    def pay(self, *pays: Pay, mint: Mapping[str, int] = MappingProxyType({})) -> str:
        """Pay, and mint or burn assets of our own policy by hex name; the id. Raises Refused; ValueError when short."""
        with self.chain.lock:
            return self.chain.submit(self.build(*pays, mint=mint))

    def sweep(self, address: str) -> str:
        """Send all that we hold to `address`; the id."""
        with self.chain.lock:
            return self.chain.submit(self.build(spend=tuple(self.holds()), change=address))

    def build(
        self,
        *pays: Pay,
        mint: Mapping[str, int] = MappingProxyType({}),
        spend: Collection[Ref] = (),
        change: str = "",
        ttl: int | None = None,
    ) -> bytes:
        """A signed transaction, not submitted. `spend` names the outputs to use and no others, `ttl` is a slot."""
        held, minted = self.holds(), {(self.policy, name): n for name, n in mint.items()}
        coins = [held[ref] for ref in spend] or _choose(held, pays, minted)
        raw, fee = b"", 10**6
        for _ in range(2):  # the fee follows the size, and the size does not follow the fee
            lovelace, assets = _left(coins, pays, minted)
            if lovelace < fee or min(assets.values(), default=0) < 0:
                raise ValueError(f"{self.name} holds too little for {pays}")
            outputs = [_output(each) for each in (*pays, Pay(change or self.address, lovelace - fee, assets))]
            body = pc.TransactionBody(inputs=[_input(out.ref) for out in coins], outputs=outputs, fee=fee, ttl=ttl)
            body.mint = _multi_asset(minted) if minted else None
            raw = self._sign(body, native_scripts=[self._policy] if minted else None)
            fee = 155_381 + 44 * (len(raw) + 8)
        return raw

    def build_failing(self, *pays: Pay) -> bytes:
        """A signed payment whose script fails: the ledger makes none of its outputs and takes 3 ADA of collateral."""
        coin = max(self.holds().values(), key=lambda out: out.value)
        policy = pc.script_hash(FAILING_SCRIPT)
        units = pc.RedeemerValue(pc.Unit(), pc.ExecutionUnits(100_000, 10_000_000))
        redeemers = pc.RedeemerMap({pc.RedeemerKey(pc.RedeemerTag.MINT, 0): units})
        minted = {(policy.payload.hex(), ""): 1}
        lovelace, assets = _left([coin], pays, minted)
        body = pc.TransactionBody(
            inputs=[_input(coin.ref)],
            outputs=[_output(each) for each in (*pays, Pay(self.address, lovelace - 10**6, assets))],
            fee=10**6,
            mint=_multi_asset(minted),
            collateral=[_input(coin.ref)],
            collateral_return=_output(Pay(self.address, coin.value - 3 * 10**6, coin.assets)),
            total_collateral=3 * 10**6,
            script_data_hash=pc.ScriptDataHash(bytes(32)),
        )
        witness = {"plutus_v2_script": [FAILING_SCRIPT], "redeemer": redeemers}
        raw = self._sign(body, **witness)
        _, [(_, error)] = self.chain.ledger.apply(self.chain.pending, self.chain.slot(), [raw])
        wanted = re.search(r'expected: Some\("([0-9a-f]{64})"\)', error)  # of cost models that only the ledger knows
        if not wanted:
            raise Refused(error)
        body.script_data_hash = pc.ScriptDataHash(bytes.fromhex(wanted[1]))
        return self._sign(body, **witness)

    def _sign(self, body: pc.TransactionBody, **witness: Any) -> bytes:
        signature = pc.VerificationKeyWitness(self._public, self._key.sign(body.hash()))
        signed = pc.TransactionWitnessSet(vkey_witnesses=[signature], **witness)
        return bytes(pc.Transaction(body, signed, valid="redeemer" not in witness).to_cbor())


def _left(coins: Collection[Out], pays: Collection[Pay], minted: Mapping[Asset, int]) -> tuple[int, dict[Asset, int]]:
    """What coins and minting leave after the payments; negative where it is not enough."""
    assets = Counter(minted)
    for out in coins:
        assets.update(out.assets)
    for pay in pays:
        assets.subtract(pay.assets)
    lovelace = sum(out.value for out in coins) - sum(pay.lovelace for pay in pays)
    return lovelace, {asset: n for asset, n in assets.items() if n}


def _choose(held: Mapping[Ref, Out], pays: Collection[Pay], minted: Mapping[Asset, int]) -> list[Out]:
    """The largest coins until they suffice for the payments, a fee and change; all where they do not."""
    chosen: list[Out] = []
    for out in sorted(held.values(), key=lambda out: -out.value):
        lovelace, assets = _left(chosen, pays, minted)
        if lovelace < 10**6 + MIN_CHANGE or min(assets.values(), default=0) < 0:
            chosen.append(out)
    return chosen


def _input(ref: Ref) -> pc.TransactionInput:
    return pc.TransactionInput(pc.TransactionId(bytes.fromhex(ref[0])), ref[1])


def _multi_asset(assets: Mapping[Asset, int]) -> pc.MultiAsset:
    nested: dict[bytes, dict[bytes, int]] = {}
    for (policy, name), n in assets.items():
        nested.setdefault(bytes.fromhex(policy), {})[bytes.fromhex(name)] = n
    return pc.MultiAsset.from_primitive(nested)


def _output(pay: Pay) -> pc.TransactionOutput:
    value = pc.Value(pay.lovelace, _multi_asset(pay.assets)) if pay.assets else pay.lovelace
    return pc.TransactionOutput(pc.Address.from_primitive(pay.address), value)
