"""The loops, and the only place where asyncio runs them: reconcile, observe, deliver; and an orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ..core.errors import CommitLost, RailDown, Unusable
from ..core.facts import Batch
from ..core.money import Instant
from ..core.ports import Event, Sink
from ..core.subject import SubjectId
from ..engine import clock
from ..engine.deliver import deliver
from ..engine.reconcile import Engine, take
from .wiring import Bursar

BATCH, BATCHES = 100, 2  # subjects of one claim, claims at work at once ...
SLOW, MOST = 500_000, 5_000  # ... beside whoever has worked for so long: they wait for a rail; and the most of all
FORGET = 120_000_000  # after so long a subject that has failed and is not tried any more fails no more
IDLE = 0.1  # seconds before an idle loop looks again
FAILED = 2.0  # ... before one that failed does
REVIVE = 2.0  # ... between two looks at our database server
STOP = 2.0  # ... for what is under way at the stop: the loops, then the passes


class Reconciler:
    """Claims whoever is due and lets each work at its own pace: a rail that is slow to answer holds up nobody else, for
    who has waited a while takes nobody's place. While the database is busy with one batch, the next one computes."""

    def __init__(self, engine: Engine, note: Callable[[str, str], None]) -> None:
        """`note` gets a subject and why its pass failed, or "" when it did not."""
        self.engine, self.note = engine, note
        self.at_work: dict[SubjectId, asyncio.Task[None]] = {}
        self.since: dict[SubjectId, Instant] = {}  # when each of them began
        self.failed: dict[SubjectId, Instant] = {}  # when their last pass began

    async def turn(self) -> float:
        for subject, task in list(self.at_work.items()):
            if task.done():
                err, began = self.at_work.pop(subject).exception(), self.since.pop(subject)
                if err and not isinstance(err, CommitLost | Unusable):
                    self.failed[subject] = began
                    self.note(str(subject), repr(err))
                elif self.failed.pop(subject, 0):
                    self.note(str(subject), "")
        for subject, began in list(self.failed.items()):
            if began < clock.now() - FORGET:  # it would have been tried again: somebody has ended it
                del self.failed[subject]
                self.note(str(subject), "")
        lately = clock.now() - SLOW
        busy = sum(began > lately for began in self.since.values())
        free = min(BATCH, BATCHES * BATCH - busy, MOST - len(self.at_work))
        claims = await self.engine.store.claim(free) if free > 0 else ()
        for claim in claims:
            if claim.subject not in self.at_work:  # its lease may have run out meanwhile
                self.since[claim.subject] = clock.now()
                self.at_work[claim.subject] = asyncio.create_task(take(self.engine, claim))
        if not self.at_work:
            return IDLE
        if len(claims) < BATCH:  # else there may be more
            await asyncio.wait(self.at_work.values(), timeout=IDLE, return_when=asyncio.FIRST_COMPLETED)
        return 0


class Shell:
    """Runs a wired Bursar until `stopping` is set. `say` gets a sentence when something begins or ceases to fail."""

    def __init__(self, bursar: Bursar, say: Callable[[str], None], stopping: asyncio.Event) -> None:
        self.bursar, self.say, self.stopping = bursar, say, stopping
        self.failing: dict[str, str] = {}  # loop or subject -> its last failure, until it succeeds
        self.silent: dict[str, str] = {}  # rail or sink -> why it does not answer, until it does
        self.loops: dict[str, asyncio.Task[None]] = {}
        self.reconciler = Reconciler(bursar.engine, partial(self.note, self.failing))

    async def run(self) -> None:
        """Returns after the stop. What does not end by itself then is cancelled: it is taken up at the next start, as
        after a crash."""
        turns: dict[str, Callable[[], Awaitable[float]]] = {"reconcile": self.reconciler.turn}
        turns |= {name: self.watcher(name) for name in self.bursar.observers}
        turns |= {name: self.teller(name, sink) for name, sink in self.bursar.sinks.items()}
        turns["prices"] = self.prices
        if self.bursar.server is not None:
            turns["database"] = self.revive
        self.loops = {name: asyncio.create_task(self.forever(name, turn)) for name, turn in turns.items()}
        await self.stopping.wait()
        for tasks in self.loops, self.reconciler.at_work:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=STOP)
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def forever(self, name: str, turn: Callable[[], Awaitable[float]]) -> None:
        """Turn after turn; `turn` says how long to rest."""
        while not self.stopping.is_set():
            try:
                rest = await turn()
                self.note(self.failing, name, "")
            except (CommitLost, RailDown):
                rest = IDLE
            except Exception as err:  # the supervisor: one loop's fault must not end the others
                rest = FAILED
                self.note(self.failing, name, repr(err))
            try:
                await asyncio.wait_for(self.stopping.wait(), rest)
            except TimeoutError:
                continue

    def note(self, known: dict[str, str], name: str, reason: str) -> None:
        """Said when it begins and when it ends, not each time."""
        if reason and name not in known:
            self.say(f"{name} {'does not answer' if known is self.silent else 'fails'}: {reason}")
        elif not reason and name in known:
            self.say(f"{name} {'answers' if known is self.silent else 'works'} again")
        if reason:
            known[name] = reason
        else:
            known.pop(name, None)

    async def prices(self) -> float:
        self.bursar.prices.now()
        self.note(self.silent, "prices", self.bursar.prices.trouble)
        return REVIVE

    async def revive(self) -> float:
        server = self.bursar.server
        assert server is not None
        if not await asyncio.to_thread(server.alive):
            self.say("the database has died: starting it again")
            await asyncio.to_thread(server.start)
        return REVIVE

    def watcher(self, rail: str) -> Callable[[], Awaitable[float]]:
        observer, pause = self.bursar.observers[rail], self.bursar.rails[rail].pause

        async def turn() -> float:
            read = await observer.turn()
            self.note(self.silent, rail, "" if isinstance(read, Batch) else read.reason)
            return 0 if isinstance(read, Batch) and read.cursor.position > observer.position else pause

        return turn

    def teller(self, name: str, sink: Sink) -> Callable[[], Awaitable[float]]:
        heard = Heard(sink)

        async def turn() -> float:
            heard.refusal = ""
            told = await deliver(self.bursar.store, name, heard, BATCH)
            self.note(self.silent, name, heard.refusal)
            return 0 if told else FAILED if heard.refusal else IDLE

        return turn


class Heard:
    """A sink whose last refusal is known: the engine goes on without it."""

    def __init__(self, sink: Sink) -> None:
        self.sink, self.refusal = sink, ""

    async def deliver(self, event: Event) -> None:
        try:
            await self.sink.deliver(event)
        except RailDown as err:
            self.refusal = str(err)
            raise
