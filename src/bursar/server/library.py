"""`async with bursar.open(config) as b`: Bursar inside an application, its loops running for as long as the block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from .config import Config, parse, read
from .shell import Shell
from .wiring import Bursar, Rail, wired


@asynccontextmanager
async def open(config: Config | str | Path, rails: Mapping[str, Rail] = {}) -> AsyncIterator[Bursar]:
    """`config`: a Config, TOML as text, or the path of a bursar.toml; `rails`: more of them, ready made.

    Raises core.errors.Explained, with a sentence and a hint."""
    match config:
        case Path():
            config = read(config)
        case str():
            config = parse(config)
    async with wired(config, rails) as bursar:
        shell = Shell(bursar)
        running = asyncio.create_task(shell.run())
        try:
            yield bursar
        finally:
            shell.stop()
            await running
