"""Reads a record that only grows, such as a venue keeps of its orders and a custodian of its credits. A position is a
line of it, which never reorganises."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random

from ...core.facts import Batch, Cursor, Fact, Watch
from ...core.money import Instant
from ...core.outcomes import Unknown
from .world import LAG, SKEW, Pause, Trouble

PAGE = 5  # lines that one read shows


class RecordSource:
    """Every read may come from a replica up to LAG behind, shows a page at most, and may be cut short, which it
    notices by the count."""

    def __init__(self, dice: Random, now: Callable[[], Instant], pause: Pause, trouble: Trouble) -> None:
        self.dice, self.now, self.pause, self.trouble = dice, now, pause, trouble

    def record(self, lag: Instant) -> Sequence[Fact]:
        """Every line of it as a fact with one key, as a replica so far behind has it."""
        return ()

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        asked = self.now()
        await self.pause()
        lag = self.dice.randint(0, LAG) if self.dice.random() < self.trouble.stale else 0
        shown = self.record(lag)
        page = shown[cursor.position : cursor.position + PAGE]
        if len(shown) < cursor.position:
            return Unknown("behind our cursor")
        if page and self.dice.random() < self.trouble.cut_short:
            return Unknown("listing cut short")
        end = cursor.position + len(page)
        watermark = max(cursor.watermark, asked - LAG - SKEW) if end == len(shown) else cursor.watermark
        return Batch(Cursor(end, (), 0, watermark), tuple(fact for fact in page if fact.keys[0] in keys))

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        await self.pause()
        keys = {watch.key for watch in watches}
        if self.dice.random() < self.trouble.cut_short:
            return Unknown("listing cut short")
        return Batch(upto, tuple(fact for fact in self.record(0)[: upto.position] if fact.keys[0] in keys))
