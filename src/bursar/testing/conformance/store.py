"""What every store must do: each sentence of `core/ports` as a check, the same for whoever implements them.

    @pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.__name__)
    def test_my_store(sentence): asyncio.run(check(sentence, my_store))

It does not measure, kill or disconnect anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from ...core.money import Instant
from ...core.ports import Store
from .stand import Sentence, Stand
from .store_rails import SENTENCES as RAILS
from .store_work import SENTENCES as WORK

Open = Callable[[Callable[[], Instant]], AbstractAsyncContextManager[Store]]  # an empty store that goes by this clock
SENTENCES = (*WORK, *RAILS)


async def check(sentence: Sentence, open_store: Open) -> None:
    """Raises AssertionError."""
    times = [lambda: 1_000_000]
    async with open_store(lambda: times[0]()) as store:
        stand = Stand(store)
        times[0] = lambda: stand.time
        await sentence(stand)
