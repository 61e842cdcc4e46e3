"""Adds ID, X-Served-By, access log and metrics to every request, and limits its declared size."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.gate import HEALTH, SERVED_BY
from app.core.logging import request_id
from app.core.metrics import Metrics
from app.core.problems import (
    MAX_BODY_BYTES,
    body_too_large,
    internal_error,
    problem_response,
)

log = logging.getLogger("app.access")

QUIET_PATHS = frozenset({HEALTH})  # probed every few seconds
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestMiddleware:
    """Outermost, so that the answer to an unexpected error also has all headers and a log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, prefix: str) -> None:
        self._app, self._metrics, self._prefix = app, metrics, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        # Accepts a client's ID only if it is safe in a header and in a log line.
        current = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(current)
        started = time.perf_counter()
        self._metrics.running.inc()
        status = 0
        head = scope["method"] == "HEAD"
        # Answers HEAD like GET without the body. A copy, because the server reads its own scope.
        asked = {**scope, "method": "GET"} if head else scope

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-ID"] = current
                answer["X-Served-By"] = SERVED_BY
                answer.setdefault("Cache-Control", "no-store")
                answer["X-Content-Type-Options"] = "nosniff"
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            if _declared_length(headers) > MAX_BODY_BYTES:
                answer = problem_response(scope["path"], body_too_large())
                await answer(scope, receive, send_with_headers)
            else:
                await self._app(asked, receive, send_with_headers)
        except Exception:
            log.exception("unexpected error")
            if status:  # the answer has begun, so only cutting it off signals the error
                raise
            answer = problem_response(scope["path"], internal_error())
            await answer(scope, receive, send_with_headers)
        finally:
            self._report(asked, scope["method"], status, time.perf_counter() - started)
            request_id.reset(token)

    def _report(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        # Set by the framework; its path has no prefix.
        route = scope.get("route")
        self._metrics.count(route and self._prefix + route.path, method, status, seconds)
        quiet = scope["path"] in QUIET_PATHS and status < 400
        client = scope.get("client")
        # Without the query, which may contain search terms.
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %d",
            method,
            scope["path"],
            status,
            extra={
                "fields": {
                    "method": method,
                    "path": scope["path"],
                    "status": status,
                    "duration_ms": round(seconds * 1000, 1),
                    "client": client[0] if client else None,
                }
            },
        )


def _declared_length(headers: Headers) -> int:
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0
