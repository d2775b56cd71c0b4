"""Wrong ways to keep and to tell: the store's commit, wake-ups, deliveries, alerts, the ledger's entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ...core import ledger, subject
from ...core.outcomes import Answer
from ...core.ports import Claim, Commit, Delivered, Event, Write
from ...core.steps import Due
from ...core.subject import STORE, SubjectId
from ...engine import reconcile
from ...engine.reconcile import Pass
from ...store.memory import LEASE
from ..plan import Aim
from ..simulator import Parts
from ..world import Store
from .mutant import Mutant
from .reading import FORKED, LOOKING, RACING
from .sending import PAYING

true_save, true_edges, true_key, true_transfers = Pass.save, reconcile.edges, subject.key, ledger.transfers


# -- the store ------------------------------------------------------------------------------
class NoVersion(Store):
    def refuse(self, commit: Commit) -> Any:
        return super().refuse(replace(commit, writes=tuple(replace(w, expect=None) for w in commit.writes)))


class QuietWake(Store):
    """A wake-up makes due, and does not raise the version: a Wait that was decided before it erases it."""

    news = False

    def write(self, w: Write) -> int:
        self.news = True
        try:
            return super().write(w)
        finally:
            self.news = False

    def strike(self, clock: str) -> None:
        self.news = False
        super().strike(clock)

    def wake(self, subject: SubjectId) -> None:
        super().wake(subject)
        self.rows[subject].version -= not self.news


class QuietRegister(Store):
    """A cursor becomes visible, and nobody is woken."""

    def register(self, subject: SubjectId, watch: Any) -> None:
        row = self.rows[subject]
        version, due = row.version, row.due
        super().register(subject, watch)
        if not watch.key:
            row.version = version
            self.set_due(subject, due)


class Uncovered(Store):
    """A watch becomes covered, and nobody is woken."""

    def advance(self, a: Any) -> None:
        rail = self.rail(a.rail)
        for name, r in list(rail.uncovered.items()):
            if r.covered(a.cursor):
                del rail.uncovered[name]
        super().advance(a)


class VersionAfter(Store):
    """The commit returns a version that counts what it did to the subject on its own account."""

    def write(self, w: Write) -> int:
        super().write(w)
        row = self.rows[w.subject]
        if w.until is not None and row.due is not None and row.due <= self.now():
            row.due = None
        return row.version


class Unfair(Store):
    """Whoever was written last is claimed first."""

    async def claim(self, limit: int) -> Sequence[Claim]:
        now = self.now()
        for name, row in reversed(self.rows.items()):
            if row.due is not None and row.due <= now and row.lease <= now:
                row.lease = now + LEASE
                return [Claim(name, now)]
        return []


class Erased(Store):
    """A claim takes the wake-up away: whoever claimed it may die."""

    async def claim(self, limit: int) -> Sequence[Claim]:
        claims = await super().claim(limit)
        for claim in claims:
            self.rows[claim.subject].due = None
        return claims


class Unstruck(Store):
    """What a clock reached while the pass was at work does not wake it."""

    def sleep(self, subject: SubjectId, until: tuple[Due, ...]) -> None:
        self.sleeping = True
        super().sleep(subject, until)
        self.sleeping = False

    sleeping = False

    def strike(self, clock: str) -> None:
        if not self.sleeping:
            super().strike(clock)


class OneClock(Store):
    """Of several clocks only the first wakes."""

    def sleep(self, subject: SubjectId, until: tuple[Due, ...]) -> None:
        super().sleep(subject, until[:1])


class Unread(Store):
    """Who begins to read another subject does not get what it last said."""

    def register(self, subject: SubjectId, watch: Any) -> None:
        if watch.rail == STORE:
            told, self.rows = self.rows, {k: r if str(k) != watch.key else type(r)() for k, r in self.rows.items()}
            super().register(subject, watch)
            self.rows = told
        else:
            super().register(subject, watch)


class Skips(Store):
    """A sink is told the latest event only."""

    async def undelivered(self, sink: str, limit: int) -> Sequence[Event]:
        return [self.rows[e.subject].events[-1] for e in await super().undelivered(sink, limit)]


class HalfCommit(Store):
    """A commit of several subjects that is refused for one has written the others."""

    async def commit(self, commit: Commit) -> Any:
        if len(commit.writes) > 1:
            for w in commit.writes[:-1]:
                await super().commit(Commit((w,)))
            commit = replace(commit, writes=commit.writes[-1:])
        return await super().commit(commit)


def key_by_instant(r: Any) -> str:
    return f"answer/{r.attempt}/{r.verb.value}/{r.asked}" if isinstance(r, Answer) else true_key(r)


# -- the engine -----------------------------------------------------------------------------
async def alerts_apart(self: Pass, *records: Any, **more: Any) -> Any:
    """What another subject is to know is told in a second commit."""
    before, engine = self.subject, self.engine
    self.engine = replace(engine, alerting=frozenset())
    step = await true_save(self, *records, **more)
    self.engine, status = engine, self.subject.status
    event = reconcile.change(before, status, self.seen().now) if status else None
    if event and (writes := true_edges(engine.alerting, event)):
        await engine.store.commit(Commit(writes))
    return step


def rises_only(alerting: Any, event: Event) -> Any:
    return true_edges(alerting, replace(event, changes=tuple(c for c in event.changes if c.startswith("+"))))


async def deliver_first(store: Any, name: str, sink: Any, limit: int = 10) -> int:
    for event in await store.undelivered(name, limit):
        await store.commit(Commit(delivered=Delivered(name, event.subject, event.version)))
        await sink.deliver(event)
    return 0


def told_flags(status: Any) -> tuple[object, ...]:
    """An event only when the state changes."""
    return (status.state,)


def edge_entry(before: Any, after: Any) -> Any:
    """Entries for what is new; what is no more stays in the books."""
    return tuple(t for t in true_transfers(before, after) if t.posting not in {p.id for p in before})


SHARING = Aim(story={"leg": 2, "split": 2, "squat": 2, "cancel": 1}, trouble={"renege": 0})

MUTANTS = {
    "no_version": Mutant("a status is written whatever came since it was computed", PAYING, Parts(store=NoVersion)),
    "quiet_wake": Mutant("a wake-up that does not raise the version", LOOKING, Parts(store=QuietWake)),
    "quiet_register": Mutant("found here: a cursor is shown and nobody woken", PAYING, Parts(store=QuietRegister)),
    "uncovered": Mutant("a watch is covered and nobody woken", LOOKING, Parts(store=Uncovered)),
    "version_after": Mutant(
        "found here: the version returned counts a report that the writer has not seen",
        SHARING,
        Parts(store=VersionAfter),
    ),
    "unfair": Mutant(
        "found here: whoever is busy is claimed first", Aim(story={"leg": 1}, rails=("cheque",)), Parts(store=Unfair)
    ),
    "erased": Mutant("a claim takes the wake-up away, and dies", PAYING, Parts(store=Erased)),
    "unstruck": Mutant("what struck during the pass does not wake", RACING, Parts(store=Unstruck)),
    "one_clock": Mutant("of several clocks one wakes", LOOKING, Parts(store=OneClock)),
    "unread": Mutant("a new reader does not get the last report", SHARING, Parts(store=Unread)),
    "skips": Mutant("a sink is told the latest event only", LOOKING, Parts(store=Skips)),
    "half_commit": Mutant("a commit of several subjects is no whole", SHARING, Parts(store=HalfCommit)),
    "key_by_instant": Mutant(
        "found here: two answers of one instant are one",
        Aim(story={"leg": 1}, trouble={"coarse": 1.0}),
        swaps=((subject.key, key_by_instant),),
    ),
    "alerts_apart": Mutant("an alert is told in a second commit", PAYING, patches=((Pass, "save", alerts_apart),)),
    "rises_only": Mutant("an alert hears of rises only", PAYING, swaps=((reconcile.edges, rises_only),)),
    "deliver_first": Mutant(
        "a delivery is confirmed before the receiver said yes", PAYING, Parts(deliver=deliver_first)
    ),
    "told_flags": Mutant("flags move and nobody is told", FORKED, swaps=((reconcile.told, told_flags),)),
    "edge_entry": Mutant("what is no more stays in the books", FORKED, swaps=((ledger.transfers, edge_entry),)),
}
