"""Starts the server: `python3 -m app`."""

import logging
import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app import __version__
from app.core.logging import configure_logging
from app.core.metrics import MetricsServer
from app.core.settings import Settings, SettingsError, load_settings
from app.core.streams import Shutdown
from app.main import create_app

EXIT_SETTINGS = 2
EXIT_PORT = 3
# What requests in flight get after the signal: more than any may take. With the chart's preStop
# pause before it and the database's closing after it, it is well within the pod's 30 seconds.
GRACE_SECONDS = 12

log = logging.getLogger("app")


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._shutdown.begin()
        super().handle_exit(sig, frame)


def main() -> int:
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"todo-backend cannot start: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    configure_logging(settings.log_level, settings.secret_values())
    log.info(
        "starting",
        extra={"fields": {"version": __version__, "environment": settings.environment}},
    )
    try:
        return serve(settings, create_app(settings))
    finally:
        log.info("stopped")


def serve(settings: Settings, app: FastAPI) -> int:
    """Until a signal comes; the exit code."""

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # app.core.middleware writes it, as JSON and with the request's ID
        server_header=False,
        proxy_headers=False,  # app.core.urls reads what is needed of them
        # Longer than proxies keep idle connections (Traefik 90 s): otherwise one may reuse a
        # connection in the moment it is closed here, and the request is lost.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        metrics = MetricsServer(app.state.metrics, settings.host, settings.metrics_port)
    except OSError as error:
        log.critical(
            "cannot listen on port %d: %s; set METRICS_PORT to a free one",
            settings.metrics_port,
            error.strerror,
        )
        return EXIT_PORT
    # uvicorn raises the signal again after its graceful shutdown; that is an ordinary end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        Server(config, app.state.shutdown).run()
    finally:
        metrics.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
