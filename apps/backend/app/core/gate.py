"""Answers on the API's port while the application starts, then passes the socket to the server.

A start takes half a second, and far longer if the database is away or another pod migrates.
Liveness must not wait for that. A readiness probe is delayed until the application is ready,
because kubelet probes only once a second. Imports nothing that takes time.
"""

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

from app import __version__

SERVED_BY = f"todo-backend/{socket.gethostname()}"
HEALTH = "/api/v1/health"
HOLD_SECONDS = 2.0  # below the probe's timeout in the chart
LOOK_SECONDS = 0.02
READ_SECONDS = 5.0
MAX_HEAD_BYTES = 64 * 1024
BACKLOG = 2048
RETRY_AFTER_SECONDS = 2


class Gate:
    """Raises OSError if the port is not available."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self.socket.setblocking(False)
        # Connections inherit it. Without it, a body waits up to 40 ms for the client's
        # acknowledgement of the head. asyncio does not set it: create_server names no protocol.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_ready: Callable[[], bool] = lambda: False
        # The same members as app.health.schemas.Health.
        self.health = {
            "status": "ok",
            "database": "unknown",
            "environment": os.environ.get("ENVIRONMENT") or "dev",
            "version": __version__,
        }
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accepts no more connections: new ones wait in the socket's queue for the server.

        Delayed readiness probes continue to wait for `is_ready`.
        """
        self._stop.close()
        self._thread.join()

    def _accept(self) -> None:
        with self._stopped:
            while self._stopped not in select.select([self.socket, self._stopped], [], [])[0]:
                with suppress(OSError):  # the client has disconnected
                    client, _ = self.socket.accept()
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            client.settimeout(READ_SECONDS)
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(4096)
                if not part or len(head) > MAX_HEAD_BYTES:
                    return
                head += part
            method, target, *_ = (*head.decode("latin-1").split(" ", 2), "", "")
            head, end, content = self._answer(method, target).partition(b"\r\n\r\n")
            client.sendall(head + end + (b"" if method == "HEAD" else content))

    def _answer(self, method: str, target: str) -> bytes:
        path, _, query = target.partition("?")
        if method not in {"GET", "HEAD"} or path != HEALTH:
            return _problem(path, "starting", "The application is starting; try again shortly.")
        if "probe=ready" in query.split("&"):
            if not self._becomes_ready():
                return _problem(path, "not-ready", "The database and its schema are not ready yet.")
            return _response(200, "application/json", self.health | {"database": "ok"})
        return _response(200, "application/json", self.health)

    def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + HOLD_SECONDS
        while not self.is_ready():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True


def _problem(path: str, code: str, detail: str) -> bytes:
    # The same members as app.core.problems.Problem.
    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
        "instance": path,
        "retry_after": RETRY_AFTER_SECONDS,
    }
    header = f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
    return _response(status, "application/problem+json", problem, header)


def _response(status: int, media_type: str, body: Mapping[str, object], header: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{header}"
        f"Content-Type: {media_type}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Served-By: {SERVED_BY}\r\n\r\n"
    )
    return head.encode() + content
