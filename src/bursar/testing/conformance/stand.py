"""What the checks of a store stand on: a store, its clock, and short words for what a pass does. It checks nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...core.facts import Cursor, Fact, Place, Watch
from ...core.ledger import Line, Posting, transfers
from ...core.money import Money
from ...core.ports import Advance, Commit, Conflict, Event, Store, Write
from ...core.subject import Mover, Record, Spec, Status, Subject, SubjectId

A, B, C = (SubjectId("t", "invoice", name) for name in "abc")
OTHER = SubjectId("u", "invoice", "a")
SPEC = Spec(1, b"\x00\xff", "me", 5)


class Stand:
    """A store, its clock, and what a pass would do."""

    def __init__(self, store: Store) -> None:
        self.store, self.time = store, 1_000_000

    async def commit(self, *writes: Write, advance: Advance | None = None) -> object:
        return await self.store.commit(Commit(writes, advance))

    async def write(self, subject: SubjectId, *records: Record, status: Status | None = None, **more: object) -> object:
        """A pass that knows all: records, a status, its entry; then it sleeps."""
        loaded = await self.load(subject)
        before = loaded.status.postings if loaded.status else ()
        entry = transfers(before, status.postings) if status else ()
        whole = {"expect": loaded.version, "until": (), "transfers": entry, **more}
        return await self.commit(Write(subject, records, status=status, **whole))  # type: ignore[arg-type]

    async def load(self, subject: SubjectId) -> Subject:
        return (await self.store.load(subject))[0]

    async def version(self, subject: SubjectId) -> int:
        return (await self.load(subject)).version

    async def due(self) -> list[SubjectId]:
        """Who can be claimed now; nobody is, an hour later."""
        claims = await self.store.claim(100)
        self.time += 3_600_000_000
        return [claim.subject for claim in claims]

    async def move(self, position: int, watermark: int = 0, rollback: int | None = None, rail: str = "chain") -> Cursor:
        """One read of the whole watch set."""
        assigned = await self.store.assignment(rail, 0)
        branch = assigned.cursor.branch + (rollback is not None)
        to = Cursor(position, (f"b{position}",), branch, watermark, assigned.version)
        answer = await self.commit(advance=Advance(rail, assigned.cursor, to, rollback))
        assert not isinstance(answer, Conflict)
        return to

    async def scan(self, *watches: Watch) -> None:
        cursor = (await self.store.assignment("chain", 0)).cursor
        answer = await self.commit(advance=Advance("chain", cursor, cursor, scanned=watches))
        assert not isinstance(answer, Conflict)

    async def shown(self, subject: SubjectId) -> set[str]:
        return set((await self.store.load(subject))[1])


Sentence = Callable[[Stand], Awaitable[None]]


def fact(movement: str, position: int | None = None, branch: int = 0, rail: str = "chain") -> Fact:
    place = Place(position, f"b{position}", 7) if position is not None else None
    return Fact(rail, movement, movement, branch, 7, keys=("k",), place=place, money=Money("ETH", 2**200))


def status(state: str = "open", mover: Mover = Mover.PAYER, **more: object) -> Status:
    return Status(state, mover, **more)  # type: ignore[arg-type]


def event(subject: SubjectId, version: int, state: str = "open") -> Event:
    flags = frozenset({"late", "odd"})
    return Event(subject, version, f"invoice.{state}.v1", state, Mover.RAIL, flags, None, ("+late",), 9)


def moving(minor: int, source: str = "equity", to: str = "wallet:x") -> Status:
    return status(postings=(Posting("p", (Line(source, "BTC", -minor), Line(to, "BTC", minor))),))
