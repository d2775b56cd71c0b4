"""The loops, and the only place where asyncio runs them: reconcile, observe, deliver; and an orderly stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from ..core.errors import CommitLost, RailDown, Unproven
from ..core.facts import Batch
from ..engine.deliver import deliver
from ..engine.reconcile import take
from .wiring import Bursar

BATCH = 100  # subjects at work at once
IDLE = 0.1  # seconds before an idle loop looks again
FAILED = 2.0  # ... before one that failed does
REVIVE = 2.0  # ... between two looks at our database server


class Shell:
    """Runs a wired Bursar until it is told to stop."""

    def __init__(self, bursar: Bursar) -> None:
        self.bursar, self.stopping = bursar, asyncio.Event()
        self.errors: dict[str, str] = {}  # loop -> its last failure, until a turn succeeds
        self.unknown: dict[str, str] = {}  # rail -> why its source can't be read, until it can

    async def run(self) -> None:
        """Returns after `stop`, when every turn that was under way has ended."""
        await self.bursar.declare_sources()
        loops = [asyncio.create_task(self.forever("reconcile", self.reconcile))]
        for name in self.bursar.observers:
            loops.append(asyncio.create_task(self.forever(name, self.watcher(name))))
        for name in self.bursar.sinks:
            loops.append(asyncio.create_task(self.forever(name, self.teller(name))))
        if self.bursar.server is not None:
            loops.append(asyncio.create_task(self.forever("database", self.revive)))
        await asyncio.gather(*loops)

    def stop(self) -> None:
        self.stopping.set()

    async def forever(self, name: str, turn: Callable[[], Awaitable[float]]) -> None:
        """Turn after turn; `turn` says how long to rest. A turn that fails is told once and tried again."""
        while not self.stopping.is_set():
            try:
                rest = await turn()
                self.errors.pop(name, None)
            except (CommitLost, RailDown):
                rest = IDLE
            except Exception as err:  # the supervisor: one loop's fault must not end the others
                rest = FAILED
                if self.errors.get(name) != repr(err):
                    print(f"{name}: {err!r}", file=sys.stderr, flush=True)
                self.errors[name] = repr(err)
            if rest:
                await self.pause(rest)

    async def pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return

    async def reconcile(self) -> float:
        claims = await self.bursar.store.claim(BATCH)
        results = await asyncio.gather(*(take(self.bursar.engine, claim) for claim in claims), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        for err in failed:
            if not isinstance(err, CommitLost | Unproven):
                raise err
            if isinstance(err, Unproven):
                print(f"refused to send: {err}", file=sys.stderr, flush=True)
        return 0 if claims and not failed else IDLE

    async def revive(self) -> float:
        server = self.bursar.server
        assert server is not None
        if not await asyncio.to_thread(server.alive):
            print("the database has died: starting it again", file=sys.stderr, flush=True)
            await asyncio.to_thread(server.start)
        return REVIVE

    def watcher(self, rail: str) -> Callable[[], Awaitable[float]]:
        observer, pause = self.bursar.observers[rail], self.bursar.rails[rail].pause

        async def turn() -> float:
            read = await observer.turn()
            if not isinstance(read, Batch):
                self.unknown[rail] = read.reason
                return pause
            self.unknown.pop(rail, None)
            return 0 if read.cursor.position > observer.position else pause

        return turn

    def teller(self, sink: str) -> Callable[[], Awaitable[float]]:
        async def turn() -> float:
            return 0 if await deliver(self.bursar.store, sink, self.bursar.sinks[sink], BATCH) else IDLE

        return turn
