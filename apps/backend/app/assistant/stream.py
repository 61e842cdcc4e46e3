"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.assistant.run import Run
from app.assistant.schemas import DoneEvent, ErrorEvent, Event
from app.core.problems import as_response

KEEP_ALIVE_SECONDS = 15.0  # below the idle timeout of proxies
FIRST_SECONDS = 5.0  # time to fail with an HTTP status; shorter than the shutdown's waiting time
KEEP_ALIVE = b": keep-alive\n\n"


def encode(event: Event) -> bytes:
    """Encodes an event. JSON contains no line breaks, so the data is one line."""
    return f"event: {event.name}\ndata: {event.data()}\n\n".encode()


class EventStream(Response):
    """Sends a run's events immediately, and stops the run if the client disconnects.

    If a run fails before its first event, the answer has the HTTP status of the problem.
    """

    media_type = "text/event-stream"

    def __init__(self, run: Run) -> None:
        self._run = run
        # X-Accel-Buffering: otherwise proxies like nginx would buffer the events.
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_disconnect(receive))
        coming = asyncio.create_task(self._run.next())
        started = False
        try:
            while True:
                await asyncio.wait(
                    {gone, coming},
                    timeout=KEEP_ALIVE_SECONDS if started else FIRST_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done():
                    return
                event = coming.result() if coming.done() else None
                if isinstance(event, ErrorEvent) and not started:
                    await as_response(event.problem)(scope, receive, send)
                    return
                if not started:
                    start = {"status": self.status_code, "headers": self.raw_headers}
                    await send({"type": "http.response.start", **start})
                    started = True
                last = isinstance(event, DoneEvent | ErrorEvent)
                body = KEEP_ALIVE if event is None else encode(event)
                await send({"type": "http.response.body", "body": body, "more_body": not last})
                if last:
                    return
                if event is not None:
                    coming = asyncio.create_task(self._run.next())
        finally:
            gone.cancel()
            coming.cancel()
            self._run.stop()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
