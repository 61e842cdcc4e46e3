"""Serves the sources from standard input, and restarts after each save, for `cargo xtask dev`.

Importing FastAPI, psycopg and other dependencies takes most of a start. So this process imports
the same modules as its first child. Each save forks a child that imports only the application.
This process keeps the port open: requests wait while a child starts, and get an answer from here
after a crash. The end of standard input ends everything.
"""

import base64
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path("/srv")
SECRETS = Path(os.environ["SECRETS_DIR"])
PORT = 8000
# A request in flight gets this long.
GRACE_SECONDS = 0.3
ASSISTANT = (sys.executable, "-m", "tests.openai_server", "--port", "9901")


def tell(event: str, **fields: object) -> None:
    """Writes a line for xtask; its first character never occurs in a log."""
    os.write(1, b"\x1e" + json.dumps({"event": event, **fields}).encode() + b"\n")


class OpenPort:
    """Has the interface of the application's gate (app.core.gate)."""

    def __init__(self, listener: socket.socket, names: int) -> None:
        self.socket = listener
        self.health: dict[str, str] = {}
        self._names = names

    def close(self) -> None:
        """Called right before the application serves."""
        ours = {"app", "__main__"}
        loaded = [name for name in sys.modules if name.partition(".")[0] not in ours]
        os.write(self._names, json.dumps(loaded).encode())
        os.close(self._names)
        tell("ready")


class Child:
    def __init__(self, listener: socket.socket) -> None:
        names, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(names)
            os._exit(self._run(listener, write))
        os.close(write)
        self.names = names
        self.ended = os.pidfd_open(self.pid)

    def _run(self, listener: socket.socket, names: int) -> int:
        code: Any = 1
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, _: sys.exit(128 + number))
            if os.environ.get("DEBUG_PORT"):
                import debugpy  # type: ignore[import-not-found]  # noqa: PLC0415 - only in the image of `dev --debug backend`

                # Published only on the machine's loopback address.
                debugpy.listen(("0.0.0.0", int(os.environ["DEBUG_PORT"])))  # noqa: S104
            from app import start  # noqa: PLC0415

            code = start.run(OpenPort(listener, names))  # type: ignore[arg-type]
        except SystemExit as end:
            code = end.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        return code if isinstance(code, int) else int(code is not None)

    def import_the_same(self) -> None:
        """Imports the modules that the child reported, so that the next child need not."""
        with os.fdopen(self.names) as pipe:
            told = pipe.read()
        self.names = -1
        for name in json.loads(told or "[]"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def end(self) -> int:
        """Ends the child with all its processes. Returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            if not select.select([self.ended], [], [], GRACE_SECONDS)[0]:
                os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.ended)
        if self.names >= 0:
            os.close(self.names)
        return os.waitstatus_to_exitcode(status)


def save(message: dict[str, Any]) -> bool:
    """Writes saved files. Returns whether the application must restart."""
    for path in message.get("gone", ()):
        with contextlib.suppress(OSError):
            (ROOT / path).unlink()
            # A file may replace an empty folder.
            for folder in (ROOT / path).parents:
                folder.rmdir()
    for path, content in message.get("put", {}).items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(content))
    if "secrets" in message:
        for old in SECRETS.iterdir():
            old.unlink()
        for name, value in message["secrets"].items():
            (SECRETS / name).write_text(value)
    changed = (*message.get("gone", ()), *message.get("put", ()))
    return "secrets" in message or any(path.startswith("app/") for path in changed)


def refuse(listener: socket.socket) -> None:
    """Answers a request while no child serves, so that the page reports it at once."""
    with contextlib.suppress(OSError):
        client, _ = listener.accept()
        with client:
            client.settimeout(1)
            client.recv(65536)
            problem = {
                "type": "about:blank",
                "title": "The backend has crashed",
                "status": 503,
                "code": "crashed",
                "detail": "cargo xtask dev shows its last lines; the next save starts it again.",
            }
            body = json.dumps(problem).encode()
            head = (
                "HTTP/1.1 503 Service Unavailable",
                "Content-Type: application/problem+json",
                "Retry-After: 1",
                "X-Served-By: todo-backend/dev",
                "Connection: close",
                f"Content-Length: {len(body)}",
            )
            client.sendall("\r\n".join((*head, "", "")).encode() + body)


def main() -> None:  # noqa: PLR0912 - one loop
    os.dup2(1, 2)
    os.chdir(ROOT)
    sys.path[0] = str(ROOT)
    listener = socket.create_server(("0.0.0.0", PORT), backlog=2048)  # noqa: S104 - in a container
    listener.setblocking(False)
    child: Child | None = None
    pending = b""

    def stop(*_: int | FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    assistant: subprocess.Popen[bytes] | None = None
    try:
        while True:
            if child is None:
                waited = [0, listener.fileno()]
            else:
                waited = [0, child.ended, *(fd for fd in (child.names,) if fd >= 0)]
            readable = select.select(waited, [], [])[0]
            if child is not None and child.names in readable:
                child.import_the_same()
            if child is not None and child.ended in readable:
                code, child = child.wait(), None
                tell("crashed", code=code)
            if child is None and listener.fileno() in readable:
                refuse(listener)
            if 0 in readable:
                more = os.read(0, 1 << 20)
                if not more:
                    return
                *lines, pending = (pending + more).split(b"\n")
                if [save(json.loads(line)) for line in lines].count(True):
                    if child is not None:
                        child.end()
                    if assistant is None and os.environ.get("FAKE_ASSISTANT"):
                        assistant = subprocess.Popen(ASSISTANT)  # noqa: S603 - a constant
                    importlib.invalidate_caches()
                    child = Child(listener)
    finally:
        if child is not None:
            child.end()


if __name__ == "__main__":
    main()
