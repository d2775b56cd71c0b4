"""A custodian that credits what its addresses receive on a chain, in its own time and not always saying for what; and
the adapter that reads its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct

from ...core.facts import Fact, Place
from ...core.money import Instant, Money
from .chain import Block, Tx
from .record import RecordSource
from .world import SKEW, Pause, Trouble

CREDITED_AS = "cBTC"


class Credit(Struct, frozen=True):
    at: Instant
    handle: str
    minor: int
    tx: str  # what it says that it is for; "" for nothing
    of: tuple[str, ...]  # the transactions that it is for, in truth: no reader is shown them


class Custodian:
    def __init__(self, name: str, confirmations: int, now: Callable[[], Instant]) -> None:
        self.name, self.confirmations, self.now = name, confirmations, now  # its own clock, up to SKEW from ours
        self.handles: dict[str, str] = {}  # address -> handle
        self.credits: list[Credit] = []
        self.taken: set[str] = set()

    def take(self, blocks: Sequence[Block]) -> list[tuple[str, int, Tx]]:
        """(handle, amount, transaction): outputs to its addresses that are deep enough, each once and for ever."""
        new = [
            (self.handles[to], money.minor, tx)
            for block in blocks[: len(blocks) - self.confirmations + 1]
            for tx in block.txs
            for to, money in tx.outs
            if to in self.handles and tx.id not in self.taken
        ]
        self.taken |= {tx.id for _, _, tx in new}
        return new

    def credit(self, handle: str, minor: int, tx: str, of: tuple[str, ...]) -> None:
        self.credits.append(Credit(self.now(), handle, minor, tx, of))


class CustodianSource(RecordSource):
    def __init__(
        self, custodian: Custodian, dice: Random, now: Callable[[], Instant], pause: Pause, trouble: Trouble
    ) -> None:
        super().__init__(dice, now, pause, trouble)
        self.custodian, self.name = custodian, custodian.name

    def record(self, lag: Instant) -> Sequence[Fact]:
        then = self.custodian.now() - lag
        return [fact(self.name, n, credit) for n, credit in enumerate(self.custodian.credits, 1) if credit.at <= then]


def fact(custodian: str, position: int, credit: Credit) -> Fact:
    line = f"{custodian}#{position}"
    return Fact(
        custodian,
        line,
        credit.tx,
        0,
        credit.at + SKEW,
        keys=(credit.handle,),
        place=Place(position, line, credit.at),
        money=Money(CREDITED_AS, credit.minor),
    )
