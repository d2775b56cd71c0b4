"""A file that grows by a line an event. A line is on disk before it counts as delivered."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..core.errors import RailDown
from ..core.ports import Event


class JsonlSink:
    def __init__(self, path: Path, encode: Callable[[Event], bytes]) -> None:
        self.path, self.encode = path, encode

    async def deliver(self, event: Event) -> None:
        """Raises RailDown: a full disk, a folder that is gone; the event is delivered again. A line that a crash cut
        short is ended first, so that it spoils no other."""
        line = self.encode(event) + b"\n"
        try:
            with self.path.open("ab+") as file:
                if file.tell() and not self.ends(file.fileno()):
                    line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as err:
            raise RailDown(str(err)) from err

    def ends(self, file: int) -> bool:
        size = os.fstat(file).st_size
        return os.pread(file, 1, size - 1) == b"\n"
