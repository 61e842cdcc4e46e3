"""Ends event streams in order when the process ends.

Requests are short, but a stream may run for a minute. Without this module the server would wait for
it as long as possible and then cut it off in the middle of an event.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.problems import ProblemError, describe

STREAM_SECONDS = 5.0  # time for a stream to end by itself
EVENT_STREAM = "text/event-stream"


@dataclass
class Shutdown:
    """The shutdown of this process. A signal handler may begin it."""

    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, so nobody waits
                self._loop.call_soon_threadsafe(self._begun.set)

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    async def wait(self) -> None:
        await self._begun.wait()


class EventStreamMiddleware:
    """Ends a stream that is still open STREAM_SECONDS after the signal, with an `error` event."""

    def __init__(self, app: ASGIApp, shutdown: Shutdown) -> None:
        self._app = app
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = asyncio.current_task()
        if scope["type"] != "http" or request is None:
            await self._app(scope, receive, send)
            return
        ender: asyncio.Task[None] | None = None
        ended = False

        async def end() -> None:
            nonlocal ended
            await self._shutdown.wait()
            await asyncio.sleep(STREAM_SECONDS)
            ended = True
            request.cancel()

        async def send_and_look(message: Message) -> None:
            nonlocal ender
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if kind.startswith(EVENT_STREAM):
                    ender = asyncio.create_task(end(), name="event-stream-end")
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        except asyncio.CancelledError:
            if not ended:
                raise
            await send(_last_event(scope["path"]))
        finally:
            if ender is not None:
                ender.cancel()
            if ended:
                request.uncancel()


def _last_event(path: str) -> Message:
    detail = "This server is shutting down. Try again; another one will answer."
    problem = describe(path, ProblemError(503, "shutting-down", detail))
    # The empty line ends an incomplete event.
    body = f"\n\nevent: error\ndata: {problem.model_dump_json(exclude_none=True)}\n\n".encode()
    return {"type": "http.response.body", "body": body, "more_body": False}
