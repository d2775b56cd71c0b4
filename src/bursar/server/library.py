"""`async with bursar.open(config) as b`: Bursar inside an application, its loops running for as long as the block."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ..core.ports import Event
from .config import Config, parse, read
from .shell import Shell
from .wiring import Bursar, Rail, wired

READS = 100  # looks, a tenth of a second apart, for the first read of every rail; who needs longer is refused invoices


async def first_reads(bursar: Bursar) -> None:
    for _ in range(READS):
        if set(bursar.observers) <= set(await bursar.store.cursors()):
            return
        await asyncio.sleep(0.1)


@asynccontextmanager
async def open(
    config: Config | str | Path,
    rails: Mapping[str, Rail] = {},
    tell: Mapping[str, Callable[[Event], Awaitable[None]]] = {},
) -> AsyncIterator[Bursar]:
    """`config`: a Config, TOML as text, or the path of a bursar.toml; `rails`: more of them, ready made; `tell`: who
    gets every event, in order per subject, at least once. What begins or ceases to fail is said to the logger `bursar`.

    Raises core.errors.Explained, with a sentence and a hint."""
    match config:
        case Path():
            config = read(config)
        case str():
            config = parse(config)
    async with wired(config, rails) as bursar:
        for name, call in tell.items():
            bursar.tell(name, call)
        await bursar.begin()
        shell = Shell(bursar, logging.getLogger("bursar").warning, asyncio.Event())
        running = asyncio.create_task(shell.run())
        try:
            await first_reads(bursar)
            yield bursar
        finally:
            shell.stopping.set()
            await running
