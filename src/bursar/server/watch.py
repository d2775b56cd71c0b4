"""`bursar watch RAIL:NETWORK ADDRESS`: what reaches an address, a line a change, judged by the engine that judges
invoices.

It needs no key and no database, and forgets everything when it ends: whoever starts it again says from which block on.
What the address pays is not told."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

from msgspec import Struct, json

from ..core.errors import CommitLost, Explained
from ..core.facts import LIVE, Batch, Cursor, Fact, Place, Standing, Stands, Watch
from ..core.money import Amount, Instant
from ..core.outcomes import Unknown
from ..core.ports import Controller, Seen
from ..core.steps import Decide, Step, Wait, at_position
from ..core.subject import FINAL, Mover, Spec, Status, Subject, SubjectId
from ..engine import clock
from ..engine.intake import command
from ..engine.observe import Observer
from ..engine.reconcile import Engine, take
from ..store.memory import MemoryStore
from . import encode
from .config import RailConfig
from .rails import Rail, build

SOURCE_UNKNOWN, SOURCE_KNOWN = "source_unknown", "source_known"
WORDS = {
    Stands.PENDING: "seen",
    Stands.INCLUDED: "included",
    Stands.DISPLACED: "replaced",
    Stands.GONE: "dropped",
    Stands.ADRIFT: "",  # the line about its block has said so
}


class Address(Struct, frozen=True):
    """The spec: what is watched, and how deep a block must lie until what it holds is final."""

    rail: str
    key: str
    since: int
    confirmations: int


class Change(Struct, frozen=True):
    """A line: what happened to one payment. `block`, `height`: where it stands, or stood until it was rolled back."""

    event: str  # seen, included, final, replaced, dropped, rolled_back
    rail: str
    address: str
    movement: str
    amount: Amount
    block: str | None
    height: int | None
    confirmations: int
    as_of: datetime


class Sight(Struct, frozen=True):
    """A line: the source can't be read, or all is told up to `height` and `as_of`."""

    event: str  # source_unknown, source_known
    rail: str
    address: str
    reason: str
    height: int
    as_of: datetime


Line = Change | Sight


def payments(s: Subject) -> dict[str, Standing]:
    return {movement: standing for movement, standing in s.standing.items() if standing.fact.money is not None}


def address_of(s: Subject) -> Address:
    return json.decode(s.spec.body, type=Address)


def status(s: Subject) -> Status:
    address = address_of(s)
    rivals = {Watch(address.rail, spent, LIVE) for found in payments(s).values() for spent in found.fact.spends}
    ours = Watch(address.rail, address.key, address.since)
    return Status("watching", Mover.NOBODY, watches=(ours, *sorted(rivals)))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    address, final, dues = address_of(s), s.about(FINAL), []
    cursor = seen.cursors.get(address.rail)
    for movement, standing in payments(s).items():
        place = standing.fact.place
        if cursor is None or place is None or movement in final or standing.stands is not Stands.INCLUDED:
            continue
        deep = max(place.position + address.confirmations - 1, standing.fact.matures)
        if cursor.position >= deep:
            return Decide(FINAL, movement, f"{address.confirmations} confirmations")
        dues.append(at_position(address.rail, deep))
    return Wait(tuple(dues))


controller = Controller("address", status, next_step)


class Watcher:
    """One address. `say` gets every line."""

    def __init__(self, rail: Rail, address: str, say: Callable[[Line], None], now: Callable[[], Instant]) -> None:
        assert rail.source is not None
        self.rail, self.address, self.say, self.now = rail, address, say, now
        self.store = MemoryStore(now)
        self.observer = Observer(self.store, rail.name, rail.source)
        self.engine = Engine(self.store, {}, {controller.kind: controller}, now)
        self.subject = SubjectId("watch", controller.kind, address)
        self.told: dict[str, tuple[Stands, Place | None]] = {}
        self.final: set[str] = set()
        self.sighted: bool | None = None  # None: nothing has been said of the source yet

    async def begin(self, since: int | None) -> None:
        """Raises Explained: a malformed address, a source that can't be read."""
        offer = self.rail.offers[0]
        try:
            key = offer.key_of(self.address)
        except ValueError as err:
            raise Explained(str(err), f"an address of {self.rail.name} is needed") from err
        read = await self.observer.turn()
        if isinstance(read, Unknown):
            raise Explained(f"{self.rail.name} can't be read: {read.reason}", "look at the source, or name another")
        first = max(0, read.cursor.position - offer.depth) if since is None else since
        body = Address(self.rail.name, key, first, offer.confirmations)
        await command(self.engine, self.subject, Spec(1, json.encode(body), "watch", self.now()))

    async def turn(self) -> float:
        """Returns how long to rest until the next one."""
        try:
            read = await self.observer.turn()
            while claims := await self.store.claim(10):
                for claim in claims:
                    await take(self.engine, claim)
        except CommitLost:
            return 0.0
        subject, covered = await self.store.load(self.subject)
        cursor = (await self.store.cursors())[self.rail.name]
        for line in self.changes(subject, cursor):
            self.say(line)
        self.sight(cursor, bool(covered), read.reason if isinstance(read, Unknown) else "")
        moved = isinstance(read, Batch) and read.cursor.position > self.observer.position
        return 0.0 if moved else self.rail.pause

    def sight(self, cursor: Cursor, covered: bool, reason: str) -> None:
        """One line when the source falls silent, one when all that it missed has been told."""
        now = self.now()
        if not reason and covered and now - cursor.watermark > self.rail.blind_after:
            reason = f"nothing newer has been read for {self.rail.blind_after // 1_000_000} seconds"
        if reason and self.sighted is not False:
            self.sighted = False
            self.say(self.seen(SOURCE_UNKNOWN, reason, cursor, now))
        elif not reason and covered and not self.sighted:
            self.sighted = True
            self.say(self.seen(SOURCE_KNOWN, "", cursor, cursor.watermark))

    def seen(self, event: str, reason: str, cursor: Cursor, at: Instant) -> Sight:
        return Sight(event, self.rail.name, self.address, reason, cursor.position, encode.instant(at))

    def changes(self, s: Subject, cursor: Cursor) -> Iterator[Line]:
        """What is new about each payment since it was last asked for."""
        final = s.about(FINAL)
        for movement, standing in sorted(payments(s).items(), key=lambda item: (item[1].fact.as_of, item[0])):
            fact, stands = standing.fact, standing.stands
            here = fact.place if stands is Stands.INCLUDED else None
            before, was = self.told.get(movement, (Stands.ADRIFT, None))
            self.told[movement] = stands, here
            if was is not None and was != here:
                yield self.change("rolled_back", movement, fact, was, cursor)
            if (stands, here) != (before, was) and WORDS[stands]:
                yield self.change(WORDS[stands], movement, fact, here, cursor)
            if movement in final and movement not in self.final and here is not None:
                self.final.add(movement)
                yield self.change("final", movement, fact, here, cursor)

    def change(self, event: str, movement: str, fact: Fact, place: Place | None, cursor: Cursor) -> Change:
        """As of when it was read; what follows from other reads, as of now."""
        assert fact.money is not None
        deep = cursor.position - place.position + 1 if place and event != "rolled_back" else 0
        return Change(
            event,
            self.rail.name,
            self.address,
            movement,
            encode.amount(fact.money, self.rail.scales),
            place.hash if place else None,
            place.position if place else None,
            deep,
            encode.instant(fact.as_of if event in ("seen", "included", "dropped") else self.now()),
        )


async def watch(name: str, address: str, config: RailConfig, since: int | None, say: Callable[[Line], None]) -> None:
    """Until it is cancelled. Raises Explained."""
    if since is not None and since < 0:
        raise Explained(f"there is no block {since}", "--since is the height of a block")
    async with AsyncExitStack() as stack:
        rail = await build(name, config, stack)
        if rail.source is None or not rail.offers:
            raise Explained(f"{name} has no addresses that could be watched")
        watcher = Watcher(rail, address, say, clock.now)
        await watcher.begin(since)
        while True:
            rest = await watcher.turn()
            await asyncio.sleep(rest)


async def until(seconds: float | None, main: Coroutine[Any, Any, None]) -> None:
    """Runs it for so long, or until SIGTERM or SIGINT; what it raises comes through."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, task.cancel)
    try:
        async with asyncio.timeout(seconds):
            await task
    except (asyncio.CancelledError, TimeoutError):
        return


def text(line: Line) -> str:
    """For a person."""
    match line:
        case Sight(event="source_unknown"):
            return f"source unknown: {line.reason} (read up to block {line.height})"
        case Sight():
            return f"source known: all is told up to block {line.height}, {line.as_of:%Y-%m-%d %H:%M:%S} UTC"
        case Change():
            word, amount = line.event.replace("_", " "), f"{line.amount.value} {line.amount.asset}"
            where = f"block {line.height} {line.block}" if line.block else "no block"
            return f"{word:11} {amount}, {where}, {line.confirmations} confirmations, {line.movement}"
