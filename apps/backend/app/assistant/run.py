"""A task that produces events, separate from the task of the HTTP request.

The request's task is cancelled when the client disconnects. This task gets one request to stop, and
then has time to store its results.
"""

import asyncio
from collections.abc import Awaitable, Callable

from app.assistant.schemas import Event


class Run:
    """A running task. `next` returns its events; it ends after the last one, or by `stop`."""

    def __init__(
        self,
        work: Callable[[Callable[[Event], None]], Awaitable[None]],
        on_end: Callable[["Run"], None],
    ) -> None:
        # Unbounded, because the work is bounded and must not wait for a client that does not read.
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._task = asyncio.create_task(self._work(work), name="assistant")
        self._task.add_done_callback(lambda _: on_end(self))

    async def next(self) -> Event:
        return await self._events.get()

    def stop(self) -> asyncio.Task[None]:
        self._task.cancel()
        return self._task

    async def _work(self, work: Callable[[Callable[[Event], None]], Awaitable[None]]) -> None:
        await work(self._events.put_nowait)
