"""The server, on the socket that the gate used during the start."""

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.core.ending import EXIT_PORT, explain_end
from app.core.gate import Gate
from app.core.metrics import MetricsServer
from app.core.settings import Settings
from app.core.streams import Shutdown

# For requests in flight after the signal: longer than any request may take. Together with the
# chart's preStop pause and closing the database, it is well within the pod's 30 seconds.
GRACE_SECONDS = 12

log = logging.getLogger("app")


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._shutdown.begin()
        super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        """Wakes once a second for the Date header, and at once for a signal.

        uvicorn's own loop checks ten times a second, which is most of an idle process's CPU time.
        """
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._shutdown.wait(), 1)


def serve(settings: Settings, app: FastAPI, gate: Gate) -> int:
    """Serves until a signal arrives. Returns the exit code."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # app.core.middleware writes it, as JSON and with the request's ID
        server_header=False,
        proxy_headers=False,  # app.core.urls reads the required ones
        # Longer than proxies keep idle connections (Traefik 90 s). Otherwise a proxy may send a
        # request on a connection that is being closed, and the request is lost.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        metrics = MetricsServer(app.state.metrics, settings.host, settings.metrics_port)
    except OSError as error:
        explain_end(
            f"todo-backend cannot listen on port {settings.metrics_port}: {error.strerror};"
            " set METRICS_PORT to a free one"
        )
        return EXIT_PORT
    server = Server(config, app.state.shutdown)
    gate.close()
    gate.is_ready = lambda: server.started and app.state.database.was_reached
    try:
        # uvicorn raises the signal again after its graceful shutdown; that is a normal exit.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        server.run(sockets=[gate.socket])
    finally:
        metrics.close()
        log.info("stopped")
    return 0
