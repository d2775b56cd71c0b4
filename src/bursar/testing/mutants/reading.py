"""Wrong ways to read and to judge what was read: facts, rails, watches, watermarks, invoices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from ... import invoices
from ...core import facts, subject
from ...core.facts import LIVE, Batch, Cursor, Fact, Rollback, Standing
from ...core.ports import Advance, Assignment, Commit, Conflict, Registration
from ...core.subject import Status, Subject
from ...engine import observe
from ...engine.observe import Observer
from ...rails.sim.chain import ChainSource
from ..plan import Aim
from ..shop import Shop
from ..simulator import Parts
from ..world import Store
from .mutant import Mutant

true_key, true_merge, true_route = subject.key, facts.merge, observe.route


# -- facts ----------------------------------------------------------------------------------
def key_without_branch(r: Any) -> str:
    return f"fact/{r.movement}/{r.place.hash if r.place else r.as_of}/{r.gone}" if isinstance(r, Fact) else true_key(r)


def key_without_run(r: Any) -> str:
    where = r.place.hash if isinstance(r, Fact) and r.place else ""
    return f"fact/{r.movement}/{where}/{r.gone}/{r.branch}" if isinstance(r, Fact) else true_key(r)


def key_without_content(r: Any) -> str:
    same = isinstance(r, Fact) and r.place is not None
    return f"fact/{r.movement}/{r.place.hash}/{r.branch}" if same else true_key(r)


def branch_wins(fs: Iterable[Fact], rollbacks: Iterable[Rollback]) -> dict[str, Standing]:
    best: dict[str, Fact] = {}
    for f in sorted(fs, key=facts.canonical):
        g = best.get(f.movement)
        if g is None or (f.branch, f.place is not None) > (g.branch, g.place is not None):
            best[f.movement] = f
    return true_merge(best.values(), rollbacks)


def last_read_wins(fs: Iterable[Fact], rollbacks: Iterable[Rollback]) -> dict[str, Standing]:
    """A later mempool read outranks a block."""
    kept: dict[str, list[Fact]] = {}
    for f in sorted(fs, key=lambda f: (f.branch, f.as_of, f.place is None)):
        kept[f.movement] = [f] if f.place is None else [*kept.get(f.movement, []), f]
    return true_merge([f for fs in kept.values() for f in fs], rollbacks)


def gone_beats_block(fs: Iterable[Fact], rollbacks: Iterable[Rollback]) -> dict[str, Standing]:
    fs = list(fs)
    gone = {f.movement: f.as_of for f in fs if f.gone}
    return true_merge([f for f in fs if f.gone or f.as_of > gone.get(f.movement, -1)], rollbacks)


def gone_holds(by_movement: Any, placed: Any, waits: Any) -> dict[str, str]:
    taken: dict[str, str] = {}
    for movement in sorted(by_movement, key=lambda m: (m in placed, min(f.as_of for f in by_movement[m]), m)):
        taken |= dict.fromkeys(by_movement[movement][-1].spends, by_movement[movement][-1].tx)
    return taken


def first_keeps(by_movement: Any, placed: Any, waits: Any) -> dict[str, str]:
    """What is spent belongs to whoever was seen first, mined or not."""
    taken: dict[str, str] = {}
    for movement in sorted(by_movement, key=lambda m: (-min(f.as_of for f in by_movement[m]), m)):
        taken |= dict.fromkeys(by_movement[movement][-1].spends, by_movement[movement][-1].tx)
    return taken


def covers_all(self: Rollback, fact: Fact) -> bool:
    """A rollback covers whatever branch the fact was read on."""
    return fact.place is not None and self.rail == fact.rail and self.above < fact.place.position


def covers_too_little(self: Rollback, fact: Fact) -> bool:
    deep = fact.place is not None and self.above + 1 < fact.place.position
    return deep and self.rail == fact.rail and self.branch > fact.branch


def no_contradiction(fs: Any) -> frozenset[str]:
    return frozenset()


# -- rails ----------------------------------------------------------------------------------
class Truncated(ChainSource):
    check_count = False


class Apart(ChainSource):
    check_tip = False


class WallClock(ChainSource):
    honest_watermark = False


class Branchless(ChainSource):
    """What waits in a mempool is not tied to the branch that it was read on."""

    def match(self, txs: Any, keys: Any, branch: int) -> list[Fact]:
        return [f if f.place else replace(f, branch=0) for f in super().match(txs, keys, branch)]


class Hasty(ChainSource):
    """Missed by one read: gone."""

    def gone(self, mined: set[str], keys: Any, branch: int, asked: int) -> list[Fact]:
        return super().gone(mined, keys, branch, asked + 60_000_000)


class ScansAnywhere(ChainSource):
    async def scan(self, upto: Cursor, watches: Any) -> Any:
        blocks = (await self.ask()).blocks
        here = Cursor(min(upto.position, len(blocks) - 1), (), upto.branch)
        got = await super().scan(here, watches)
        return Batch(upto, got.found) if isinstance(got, Batch) else got


class BlindToRivals(ChainSource):
    """Rivals of what is paid in the same batch are not looked for."""

    def match(self, txs: Any, keys: Any, branch: int) -> list[Fact]:
        return [f for f in super().match(txs, keys, branch) if f.money or any(thing in keys for thing in f.spends)]


class NoReorg(ChainSource):
    """A node on another fork is believed, and nothing is disconnected."""

    async def follow(self, cursor: Cursor, keys: Any) -> Any:
        got = await super().follow(cursor, keys)
        return replace(got, rollback=None) if isinstance(got, Batch) else got


# -- the observer ---------------------------------------------------------------------------
class CursorFirst(Observer):
    async def follow(self) -> Any:
        cursor = await self.refresh()
        batch = await self.source.follow(cursor, self.watched.keys)
        if isinstance(batch, Batch):
            to = observe.covering(cursor, batch.cursor, self.watched.version)
            moved = await self.store.commit(Commit(advance=Advance(self.rail, cursor, to, batch.rollback)))
            if not isinstance(moved, Conflict):
                await self.store.commit(Commit(observe.route(self.watched, batch.found, cursor)))
        return batch


class ScanFirst(Observer):
    """No read while there is something to scan."""

    async def turn(self) -> Any:
        if self.watched.to_scan(await self.refresh()):
            return await self.scan()
        return await self.follow()


class ScansUnripe(Observer):
    """A scan covers a watch that the last read did not know: a block may fall between."""

    async def turn(self) -> Any:
        await self.refresh()
        return await (self.scan() if self.watched.unscanned else self.follow())

    async def scan(self) -> None:
        cursor = await self.refresh()
        watches = tuple({r.watch for r in self.watched.unscanned.values()})
        batch = await self.source.scan(cursor, watches) if watches else None
        if isinstance(batch, Batch):
            writes = observe.route(self.watched, batch.found, None)
            await self.store.commit(Commit(writes, Advance(self.rail, cursor, cursor, scanned=watches)))


def unripe(self: Registration, cursor: Cursor) -> bool:
    return not self.scanned


def any_follow_covers(before: Cursor, after: Cursor, version: int) -> Cursor:
    return replace(after, watched=version)


def scanned_is_covered(self: Registration, cursor: Cursor) -> bool:
    return self.scanned


def after_of_all(watched: Any, fact: Fact, cursor: Cursor | None) -> dict[Any, int]:
    """`after` is believed of watches that are not covered."""
    names = [name for key in fact.keys for name, _ in watched.keys.get(key, {})]
    return dict.fromkeys(names, cursor.watermark if cursor else 0)


def no_rivals(watched: Any, found: Any, cursor: Cursor | None) -> Any:
    return tuple(replace(w, live=()) for w in true_route(watched, found, cursor))


def no_live_rivals(s: Subject) -> Status:
    status = invoices.status(s)
    return replace(status, watches=tuple(w for w in status.watches if w.since != LIVE))


class ShowsCursor(Store):
    async def load(self, subject: Any) -> Any:
        loaded, cursors = await super().load(subject)
        watches = self.rows[subject].watches if subject in self.rows else ()
        return loaded, {w.rail: self.rail(w.rail).cursor for w in watches if w.rail != "bursar"} | dict(cursors)


class ForgetsRollback(Store):
    """The follower goes back, and nobody is told."""

    def advance(self, a: Advance) -> None:
        super().advance(replace(a, rollback=None))


class StaleAssignment(Store):
    """Replicas see the watch set late."""

    async def assignment(self, rail: str, known: int) -> Assignment:
        got = await super().assignment(rail, known)
        return replace(got, changed=got.changed[: len(got.changed) // 2])


LOOKING = Aim(story={"mine": 4, "invoice": 2, "reorg": 1, "undo": 1, "back": 1, "rbf": 1, "snipe": 1, "evict": 1})
CALM = {"stall": 0, "lost_question": 0, "lost_answer": 0, "slow_commit": 0, "late_commit": 0, "crash": 0, "lie": 0}
FORKED = Aim(story={"mine": 3, "invoice": 2, "reorg": 2, "undo": 3, "back": 3}, trouble=CALM)
POOL = Aim(story={"mine": 1, "invoice": 2, "evict": 4, "rbf": 3, "snipe": 1}, trouble=CALM)
AMBUSH = Aim(story={"mine": 1, "invoice": 2, "ambush": 4}, trouble=CALM | {"stale": 1.0, "blind": 0, "cut_short": 0})
GONE = Aim(
    story={"mine": 1, "invoice": 3, "evict": 3, "rbf": 5},
    trouble=CALM | {"stale": 0, "cut_short": 0, "blind": 0},
    steps=1800,
)
RIVALS = Aim(story={"mine": 2, "invoice": 2, "snipe": 4, "rbf": 3}, trouble=CALM | {"stale": 0.5})
LAGGING = Aim(story={"mine": 4, "invoice": 3, "snipe": 1}, trouble=CALM | {"stale": 1.0, "blind": 0})
CUT = Aim(story={"mine": 3, "invoice": 2}, trouble=CALM | {"cut_short": 0.5})
YOUNG = Aim(
    story={"mine": 1, "fund": 4, "invoice": 1},
    early=1.0,
    trouble={"cut_short": 0.5, "stale": 0.5, "blind": 0, "lie": 0},
)
EARLY = Aim(story={"mine": 3, "invoice": 3, "undo": 2, "reorg": 2}, early=1.0, trouble=CALM)
BLINDED = Aim(story={"invoice": 4, "blind": 4}, trouble=CALM)
ENDS = Aim(story={"mine": 3, "invoice": 3, "blind": 2}, trouble={"lie": 0})
RACING = Aim(
    story={"mine": 5, "invoice": 3},
    trouble=CALM | {"slow_commit": 1.0, "cut_short": 0, "stale": 0, "blind": 0},
    early=0,
)
UNRIPE = Aim(story={"mine": 5, "invoice": 3}, trouble=RACING.trouble, early=0.6)
LYING = Aim(story={"mine": 3, "invoice": 3}, early=1.0, trouble={"lie": 0.5})

MUTANTS = {
    "key_without_branch": Mutant(
        "the same block back after a reorg is the same fact", FORKED, swaps=((subject.key, key_without_branch),)
    ),
    "key_without_run": Mutant(
        "broadcast again after it had gone is no news", POOL, swaps=((subject.key, key_without_run),)
    ),
    "key_without_content": Mutant(
        "two answers about one block are one fact", LYING, swaps=((subject.key, key_without_content),)
    ),
    "no_contradiction": Mutant(
        "two answers about one block, and nobody is told", LYING, swaps=((facts.contradicted, no_contradiction),)
    ),
    "branch_wins": Mutant("the highest branch wins, pending included", FORKED, swaps=((facts.merge, branch_wins),)),
    "last_read_wins": Mutant("a later mempool read outranks a block", LAGGING, swaps=((facts.merge, last_read_wins),)),
    "gone_beats_block": Mutant(
        "what left a mempool outranks its block", LAGGING, swaps=((facts.merge, gone_beats_block),)
    ),
    "gone_holds": Mutant(
        "found here: what has gone still holds what it spends", GONE, swaps=((facts.spenders, gone_holds),)
    ),
    "first_keeps": Mutant(
        "of rivals the one first seen wins, mined or not", RIVALS, swaps=((facts.spenders, first_keeps),)
    ),
    "covers_all": Mutant(
        "a rollback covers what was read after it", FORKED, patches=((Rollback, "covers", covers_all),)
    ),
    "covers_too_little": Mutant(
        "a rollback spares the lowest block", FORKED, patches=((Rollback, "covers", covers_too_little),)
    ),
    "truncated": Mutant("an empty answer is read as nothing", CUT, Parts(chain=Truncated)),
    "apart": Mutant("mempool and blocks are read apart, what moved between is in neither", AMBUSH, Parts(chain=Apart)),
    "wall_clock": Mutant("the watermark is the wall clock", LAGGING, Parts(chain=WallClock)),
    "branchless": Mutant("only what stands in a block knows its branch", FORKED, Parts(chain=Branchless)),
    "hasty": Mutant("missed by one lagging read: gone", LAGGING, Parts(chain=Hasty)),
    "scans_anywhere": Mutant("a scan of another fork covers", EARLY, Parts(chain=ScansAnywhere)),
    "blind_to_rivals": Mutant(
        "the rival in the block beside its payment is missed", RIVALS, Parts(chain=BlindToRivals)
    ),
    "no_reorg": Mutant("a fork is followed, and nothing disconnected", FORKED, Parts(chain=NoReorg)),
    "cursor_first": Mutant("the cursor is committed without its facts", LOOKING, Parts(observer=CursorFirst)),
    "scan_first": Mutant("scans before it follows", EARLY, Parts(observer=ScanFirst)),
    "scans_unripe": Mutant(
        "a scan covers a watch that the last read did not know",
        UNRIPE,
        Parts(observer=ScansUnripe),
        patches=((Registration, "ripe", unripe),),
    ),
    "any_follow_covers": Mutant(
        "found here: a watermark is believed of a watch that is younger than it",
        YOUNG,
        swaps=((observe.covering, any_follow_covers),),
    ),
    "scanned_is_covered": Mutant(
        "found here: a watermark that is older than the scan is believed",
        YOUNG,
        patches=((Registration, "covered", scanned_is_covered),),
    ),
    "after_of_all": Mutant(
        "`after` is believed of a watch that was never covered", EARLY, swaps=((observe.watchers, after_of_all),)
    ),
    "no_rivals": Mutant(
        "the inputs of a payment are not watched",
        RIVALS,
        Parts(controllers=(replace(invoices.controller, status=no_live_rivals),)),
        swaps=((observe.route, no_rivals),),
    ),
    "shows_cursor": Mutant("silence is believed before the back-scan", YOUNG, Parts(store=ShowsCursor)),
    "forgets_rollback": Mutant("a reorg, and no subject is told", FORKED, Parts(store=ForgetsRollback)),
    "stale_assignment": Mutant("a follower that skips new watches", LOOKING, Parts(store=StaleAssignment)),
    "since_the_tip": Mutant("a back-scan begins at the tip", EARLY, patches=((Shop, "back", 0),)),
}
