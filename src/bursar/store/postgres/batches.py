"""Calls of one moment become one call: what a hundred passes ask for costs one trip. It knows nothing of SQL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
LIMIT = 100  # items of one batch


class Batches(Generic[T, R]):
    """`run` answers a batch item by item, an exception for an item that failed alone; what it raises is everybody's.
    No two items of a batch share one of their `names`; those that do keep their order."""

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]],
        names: Callable[[T], Iterable[Hashable]],
        width: int,
    ) -> None:
        self.run, self.names, self.width = run, names, width
        self.waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self.busy: set[Hashable] = set()  # of the batches under way
        self.running = 0  # drains that will look once more for what waits
        self.runs: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.waiting.append((item, future))
        if self.running < self.width:
            self.running += 1
            task = asyncio.create_task(self.drain())  # it begins when all who are ready now have asked
            self.runs.add(task)
            task.add_done_callback(self.runs.discard)
        return await future

    async def drain(self) -> None:
        try:
            while batch := self.take():
                await self.answer(batch)
        finally:
            self.running -= 1  # in the step that found nothing: whoever asks next begins another

    async def answer(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        names = {name for item, _ in batch for name in self.names(item)}
        self.busy |= names
        run = asyncio.ensure_future(self.run([item for item, _ in batch]))
        try:
            await asyncio.wait([run])
            failed = run.exception()
            for (_, future), answer in zip(batch, [failed] * len(batch) if failed else run.result(), strict=True):
                settle(future, answer)
        finally:
            self.busy -= names
            for _, future in batch:
                future.cancel()  # of no effect on those that have their answer

    def take(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch, left, busy = list[tuple[T, asyncio.Future[R]]](), list[tuple[T, asyncio.Future[R]]](), set(self.busy)
        while self.waiting and len(batch) < LIMIT:
            item, future = self.waiting.popleft()
            if future.done():  # whoever asked has given up, and nothing was sent
                continue
            names = set(self.names(item))
            (left if names & busy else batch).append((item, future))
            busy |= names
        self.waiting.extendleft(reversed(left))
        return batch


def settle(future: asyncio.Future[R], answer: R | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
