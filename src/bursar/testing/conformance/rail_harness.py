"""What the rail conformance suite needs of a world, and how it reads a rail: the real observer on the store in memory.

A harness is the methods of `Harness`, blocking calls all of them, and `Traits` that say what its world can do."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol

from msgspec import Struct

from ...core.facts import LIVE, Batch, Cursor, Fact, Standing, Stands, Watch
from ...core.money import Instant, Money
from ...core.outcomes import Unknown
from ...core.ports import Commit, Source, Write
from ...core.subject import Mover, Status, SubjectId
from ...engine.observe import Observer
from ...store.memory import MemoryStore

TURNS = 400  # in which a follower must have caught up, or recovered


class Traits(Struct, frozen=True):
    width: int  # the most blocks that one read takes
    sees_unconfirmed: bool = False  # what waits is seen
    can_reorg: bool = False  # `leave`, `back` and `outrun` are there
    can_replace: bool = False  # `replace` and `confirm` are there
    can_drop: bool = False  # `drop` is there
    troubles: tuple[str, ...] = ()  # names for `mislead`


class Payment(Struct, frozen=True):
    movement: str  # as the source will call it
    money: Money


class Harness(Protocol):
    """One world with its chain, and the only one who moves it."""

    rail: str
    traits: Traits

    def now(self) -> Instant:
        """The clock that the source reads, in microseconds; it moves with every block at least."""

    def source(self) -> Source:
        """A new adapter, as after a restart: it remembers nothing."""

    def requests(self) -> int:
        """How many have been asked of the backends, by all adapters."""

    def key(self) -> str:
        """A new key of ours, as it is watched."""

    def pay(self, key: str) -> Payment:
        """Somebody pays it: the payment waits for a block."""

    def sweep(self, key: str) -> None:
        """All that the key holds goes elsewhere: it waits for a block."""

    def mine(self, blocks: int = 1) -> None:
        """The first one takes all that waits."""

    def leave(self, blocks: int) -> None:
        """The newest blocks are left, for a longer branch without transactions; theirs wait again."""

    def back(self) -> None:
        """The branch that was left is the chain again: the very same blocks, and longer now than the other one."""

    def outrun(self, movement: str) -> None:
        """A block takes another transaction, that pays us nothing and spends what this waiting payment spends."""

    def replace(self, movement: str) -> None:
        """Such a transaction takes its place among those that wait."""

    def confirm(self, movement: str) -> None:
        """A block takes the payment although it was replaced."""

    def drop(self, movement: str) -> None:
        """It waits no longer, and time passes until its source may say so."""

    def mislead(self, trouble: str) -> None:
        """From now on the backends are in this trouble; "": in none, and all are up to date."""


class Checked:
    """A source, with what the port promises of every batch."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.source = harness, harness.source()

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        batch = await self.source.follow(cursor, keys)
        if isinstance(batch, Batch):
            to, rollback = batch.cursor, batch.rollback
            assert (rollback is not None) == (to.branch != cursor.branch), "a rollback is what begins a branch"
            assert rollback is None or to.branch == cursor.branch + 1 and rollback < cursor.position
            base = cursor.position if rollback is None else rollback
            first = not cursor.trail
            assert first or base <= to.position <= base + self.harness.traits.width, "the width bounds a read"
            assert to.trail and to.watermark <= self.harness.now()
            for fact in batch.found:
                self.check(fact, to)
                assert fact.place is None or first or base < fact.place.position, "blocks of this read only"
                assert fact.money is None or all(key in keys for key in fact.keys)
                assert fact.place or self.harness.traits.sees_unconfirmed
            placed = [fact.movement for fact in batch.found if fact.place]
            assert len(placed) == len(set(placed)), "a movement stands in one block of a chain"
        return batch

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        assert all(watch.since != LIVE for watch in watches)
        batch = await self.source.scan(upto, watches)
        if isinstance(batch, Batch):
            assert batch.cursor == upto and batch.rollback is None, "a scan moves nothing"
            keys = {watch.key for watch in watches}
            for fact in batch.found:
                self.check(fact, upto)
                assert fact.place and keys.issuperset(fact.keys) and not fact.gone
        return batch

    def check(self, fact: Fact, to: Cursor) -> None:
        assert fact.rail == self.harness.rail and fact.branch == to.branch
        assert fact.after == 0, "the engine sets it, while routing"
        assert fact.keys or fact.spends, "whom does it concern"
        assert len(fact.keys) == 1 if fact.money else set(fact.keys) <= set(fact.spends)
        assert 0 < fact.as_of <= self.harness.now()
        if fact.place is not None:
            below = to.position - fact.place.position
            assert below >= 0 and not fact.gone
            assert below >= len(to.trail) or to.trail[-1 - below] == fact.place.hash, "on the cursor's own branch"


class Follower:
    """Observer and store; one subject for each key."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.store, self.serial = harness, MemoryStore(harness.now), 0
        self.restart()

    def restart(self) -> None:
        self.observer = Observer(self.store, self.harness.rail, Checked(self.harness))

    async def cursor(self) -> Cursor:
        return (await self.store.assignment(self.harness.rail, 0)).cursor

    async def watch(self, key: str) -> SubjectId:
        """From ten blocks below the cursor on."""
        self.serial += 1
        to = SubjectId("t", "watcher", str(self.serial))
        since = max(0, (await self.cursor()).position - 10)
        await self.watch_since(to, key, since)
        return to

    async def watch_since(self, to: SubjectId, key: str, since: int) -> None:
        status = Status("watching", Mover.RAIL, watches=(Watch(self.harness.rail, key, since),))
        await self.store.commit(Commit((Write(to, expect=0, status=status),)))

    async def catch_up(self) -> list[Batch]:
        """Turns, until one begins and ends at one position, and another one has covered what was scanned."""
        batches: list[Batch] = []
        calm = 0
        for _ in range(TURNS):
            before = await self.cursor()
            batch = await self.observer.turn()
            if isinstance(batch, Batch):
                batches.append(batch)
                calm = calm + 1 if batch.cursor.position == before.position and batch.rollback is None else 0
                if calm == 2:
                    return batches
        raise AssertionError(f"it has not caught up in {TURNS} turns: {batch}")

    async def standing(self, of: SubjectId, payment: Payment) -> Standing | None:
        subject, _ = await self.store.load(of)
        return subject.standing.get(payment.movement)

    async def stands(self, of: SubjectId, payment: Payment) -> Stands | None:
        standing = await self.standing(of, payment)
        assert standing is None or standing.fact.money == payment.money
        return standing.stands if standing else None

    async def included(self, of: SubjectId, payment: Payment) -> Fact:
        standing = await self.standing(of, payment)
        assert standing is not None and standing.stands is Stands.INCLUDED, f"{payment}: {standing}"
        assert standing.fact.money == payment.money
        return standing.fact

    async def covered(self, of: SubjectId) -> bool:
        """Does silence count for it?"""
        _, cursors = await self.store.load(of)
        return self.harness.rail in cursors
