"""A file that grows by a line an event. A line is on disk before it counts as delivered; nothing is ever taken back, so
a line that a crash cut short stays, ended, and is no JSON: its event follows whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from ..core.errors import RailDown
from ..core.ports import Event


class JsonlSink:
    def __init__(self, path: Path, encode: Callable[[Event], bytes]) -> None:
        self.path, self.encode = path, encode

    async def deliver(self, event: Event) -> None:
        """Raises RailDown: a full disk, a folder that is gone; the event is delivered again."""
        try:
            await asyncio.to_thread(self.append, self.encode(event) + b"\n")
        except OSError as err:
            raise RailDown(f"{self.path}: {err.strerror}") from err

    def append(self, line: bytes) -> None:
        with self.path.open("ab+") as file:
            size = os.fstat(file.fileno()).st_size
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
