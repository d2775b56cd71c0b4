"""A coroutine of the application's: what it raises as RailDown is delivered again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..core.ports import Event


class CallbackSink:
    def __init__(self, call: Callable[[Event], Awaitable[None]]) -> None:
        self.call = call

    async def deliver(self, event: Event) -> None:
        await self.call(event)
