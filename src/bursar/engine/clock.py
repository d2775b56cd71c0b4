"""The only clock. Everything else is handed one."""

from __future__ import annotations

import time

from ..core.money import Instant


def now() -> Instant:
    return time.time_ns() // 1_000
