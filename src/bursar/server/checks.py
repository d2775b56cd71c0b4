"""Looking a database over: while Bursar runs, or while it does not. Nothing is repaired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from ..core.errors import Explained
from ..engine import clock
from ..store.doctor import Finding, examine, replay_verify
from ..store.embedded import Embedded
from ..store.postgres import PostgresStore
from .config import Config
from .wiring import CONTROLLERS

Check = Callable[[PostgresStore], Awaitable[Sequence[Finding]]]


async def doctor(store: PostgresStore) -> Sequence[Finding]:
    return await examine(store, CONTROLLERS)


async def replay(store: PostgresStore) -> Sequence[Finding]:
    return await replay_verify(store, CONTROLLERS)


async def look(config: Config, check: Check) -> Sequence[Finding]:
    """An embedded database that is at rest is started for it, and stopped again. Raises Explained."""
    url = config.database.url
    if url == "memory":
        raise Explained("the database is in memory: from outside there is nothing to look at")
    async with AsyncExitStack() as stack:
        if url == "embedded":
            server = Embedded(config.folder / "postgres")
            if not (config.folder / "postgres").exists():
                raise Explained(f"there is no database in {config.folder}", "start Bursar first: bursar up")
            if not await asyncio.to_thread(server.alive):
                stack.push_async_callback(asyncio.to_thread, server.stop)
                await asyncio.to_thread(server.start)
            url = server.dsn("bursar_engine")
        return await check(await stack.enter_async_context(await PostgresStore.open(url, clock.now, 2)))
