"""Starts the server: `python3 -m app`."""

import logging
import signal
import sys

import uvicorn

from app import __version__
from app.core.logging import configure_logging
from app.core.settings import Settings, SettingsError, load_settings
from app.main import create_app

EXIT_SETTINGS = 2


def main() -> int:
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"todo-backend cannot start: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    configure_logging(settings.log_level, settings.secret_values())
    logging.getLogger("app").info(
        "starting",
        extra={"fields": {"version": __version__, "environment": settings.environment}},
    )
    # uvicorn raises the signal again after its graceful shutdown; that is an ordinary end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(settings)
    finally:
        logging.getLogger("app").info("stopped")
    return 0


def serve(settings: Settings) -> None:
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # app.core.middleware writes it, as JSON and with the request's ID
        server_header=False,
        proxy_headers=False,  # app.core.urls reads what is needed of them
        # Longer than proxies keep idle connections (Traefik 90 s): otherwise one may reuse a
        # connection in the moment it is closed here, and the request is lost.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=20,
    )


if __name__ == "__main__":
    sys.exit(main())
