"""Prices from a fixed table or a file. What is missing is missing: nothing is ever valued at zero."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import Explained
from .config import PriceConfig, positive


class Prices:
    def __init__(self, config: PriceConfig) -> None:
        self.fixed, self.path = config.fixed, Path(config.file) if config.file else None
        self.stamp, self.read, self.trouble = 0, dict[str, str](), ""

    def now(self) -> Mapping[str, str]:
        """ "ADA/EUR" -> decimal text. A file that can not be read, or holds nonsense, gives no price until it is
        mended."""
        if self.path is None:
            return self.fixed
        try:
            stamp = self.path.stat().st_mtime_ns
            if stamp != self.stamp:
                table = tomllib.loads(self.path.read_text(encoding="utf-8"))
                self.read = {pair: positive(pair, price) for pair, price in table.items()}
                self.stamp = stamp
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, Explained) as err:
            self.trouble = f"{self.path}: {err}"
            return self.fixed
        self.trouble = ""
        return {**self.fixed, **self.read}
