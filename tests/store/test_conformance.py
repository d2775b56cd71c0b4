"""The shipped suite, unchanged, against both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

import pytest
from tests.harness import postgres

from bursar.core.money import Instant
from bursar.core.ports import Store
from bursar.store.memory import MemoryStore
from bursar.testing.conformance.stand import Sentence
from bursar.testing.conformance.store import SENTENCES, Open, check


@asynccontextmanager
async def in_memory(now: Callable[[], Instant]) -> AsyncIterator[Store]:
    yield MemoryStore(now, lambda: asyncio.sleep(0))


@cache
def database() -> str:
    return postgres.server().migrated()


@asynccontextmanager
async def in_postgres(now: Callable[[], Instant]) -> AsyncIterator[Store]:
    postgres.server().wipe(database())
    async with await postgres.store(database(), now) as store:
        yield store


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.__name__)
@pytest.mark.parametrize("open_store", [in_memory, in_postgres], ids=["memory", "postgres"])
def test_a_store_does_what_the_ports_say(open_store: Open, sentence: Sentence) -> None:
    asyncio.run(check(sentence, open_store))
