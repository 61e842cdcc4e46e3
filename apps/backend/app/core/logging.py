"""Logs one JSON object per line to stdout, with the request's ID and without secrets."""

import json
import logging
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

from app.core.redact import Redactor
from app.core.tracebacks import format_error

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

log = logging.getLogger("app")

# These loggers are too verbose, or repeat our own messages.
QUIETER = {
    "alembic": logging.WARNING,  # app.migrate reports the result
    "psycopg": logging.ERROR,
    "psycopg.pool": logging.ERROR,  # app.core.db reports each change of state once
    "uvicorn.error": logging.WARNING,
    # HTTP clients log URLs, headers and bodies at lower levels.
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "openai": logging.WARNING,
}


class JsonFormatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._redactor = Redactor(secrets)

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            entry["request_id"] = current
        entry |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = format_error(record.exc_info[1])
        # Before JSON encoding, which would escape quotation marks in a secret.
        return json.dumps(self._redactor.value(entry), ensure_ascii=False)

    def mask(self, text: str) -> str:
        """Returns the text without secrets, for output outside the log."""
        return self._redactor.text(text)


def configure_logging(level: str, secrets: Iterable[str]) -> JsonFormatter:
    formatter = JsonFormatter(secrets)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, least in QUIETER.items():
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), least))
    # Otherwise uncaught errors would go to stderr unmasked.
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    return formatter


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("uncaught error", exc_info=(kind, error, trace))
