"""A coroutine of the application's: whatever it raises, the event is delivered again, and holds up only its subject."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..core.errors import RailDown
from ..core.ports import Event


class CallbackSink:
    def __init__(self, call: Callable[[Event], Awaitable[None]]) -> None:
        self.call = call

    async def deliver(self, event: Event) -> None:
        """Raises RailDown."""
        try:
            await self.call(event)
        except asyncio.CancelledError as err:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # it is us who are to end, not something that the application had awaited
            raise RailDown(repr(err)) from err
        except Exception as err:  # the border to code that is not ours: its fault must not stop others' events
            raise RailDown(repr(err)) from err
