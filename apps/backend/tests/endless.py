"""The application with an event stream that never ends by itself: `python3 -m tests.endless`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from app.core.gate import Gate
from app.core.logging import configure_logging
from app.core.settings import load_settings
from app.main import create_app
from app.server import serve


async def events(size: int) -> AsyncIterator[bytes]:
    number = 0
    while True:
        yield f"event: text\ndata: {number}{' ' * size}\n\n".encode()
        number += 1
        await asyncio.sleep(0.2)


async def stream(size: int = 0) -> StreamingResponse:
    return StreamingResponse(events(size), media_type="text/event-stream")


if __name__ == "__main__":
    settings = load_settings()
    configure_logging(settings.log_level, settings.secret_values())
    app = create_app(settings)
    app.add_api_route("/api/v1/stream", stream)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.exit(serve(settings, app, Gate(settings.host, int(os.environ["PORT"]))))
