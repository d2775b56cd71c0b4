"""The simulated chain as a world for the rail conformance suite."""

from __future__ import annotations

from random import Random
from typing import Self

from bursar.core.money import Instant, Money
from bursar.rails.sim.chain import Chain, ChainSource, Tx
from bursar.rails.sim.world import LAG, SECOND, SKEW, Trouble
from bursar.testing.conformance.rail import Payment, Traits

BLOCK = 20 * SECOND
TROUBLES = {
    "behind": Trouble(stale=1.0),
    "cut short": Trouble(cut_short=0.5),
    "both": Trouble(stale=0.5, cut_short=0.5),
}


class SimHarness:
    rail = "sim:chain"
    traits = Traits(
        ChainSource.width,
        sees_unconfirmed=True,
        can_reorg=True,
        can_replace=True,
        can_drop=True,
        troubles=tuple(TROUBLES),
    )

    def __init__(self) -> None:
        self.chain, self.serial, self.asked = Chain(Random(1)), 0, 0
        self.chain.now = 1_000 * SECOND
        self.trouble = Trouble()
        self.left = self.chain.head.blocks
        self.txs: dict[str, Tx] = {}
        self.mine(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def now(self) -> Instant:
        return self.chain.now

    async def count(self) -> None:
        self.asked += 1

    def source(self) -> ChainSource:
        return ChainSource(self.rail, self.chain, Random(self.asked), self.now, self.count, self.trouble)

    def requests(self) -> int:
        return self.asked

    def name(self, what: str) -> str:
        self.serial += 1
        return f"{what}{self.serial}"

    def key(self) -> str:
        return self.name("key")

    def tx(self, spends: tuple[str, ...], to: str) -> Tx:
        tx = Tx(self.name("tx"), spends, ((to, Money("BTC", 1_000 + self.serial)),), self.chain.now)
        self.txs[f"{tx.id}:0"] = tx
        self.chain.now += SECOND
        self.chain.broadcast(tx)
        return tx

    def pay(self, key: str) -> Payment:
        tx = self.tx((self.name("coin"),), key)
        return Payment(f"{tx.id}:0", tx.outs[0][1])

    def sweep(self, key: str) -> None:
        self.tx(tuple(movement for movement, tx in self.txs.items() if tx.outs[0][0] == key), "elsewhere")

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.now += BLOCK
            self.chain.mine(1, 1)

    def leave(self, blocks: int) -> None:
        self.left = self.chain.head.blocks
        self.chain.move(self.left[:-blocks])
        self.empty(blocks + 1)

    def empty(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.now += BLOCK
            self.chain.block(())

    def back(self) -> None:
        longer = len(self.chain.head.blocks) - len(self.left) + 1
        self.chain.move(self.left)
        self.empty(longer)

    def outrun(self, movement: str) -> None:
        self.replace(movement)
        self.mine()

    def replace(self, movement: str) -> None:
        self.tx(self.txs[movement].spends, "elsewhere")

    def confirm(self, movement: str) -> None:
        self.chain.now += BLOCK
        self.chain.block((self.txs[movement],))

    def drop(self, movement: str) -> None:
        self.chain.evict(self.txs[movement])
        self.chain.now += LAG + SKEW + SECOND

    def mislead(self, trouble: str) -> None:
        hostile = TROUBLES.get(trouble, Trouble())
        self.trouble.stale, self.trouble.cut_short = hostile.stale, hostile.cut_short
