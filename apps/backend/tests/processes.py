"""The server as a process of its own, as the image starts it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def running(
    source: Path | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The application in folder `source` (default: this one) and the address of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=source,
        env=os.environ | {"HOST": "127.0.0.1", "PORT": str(port)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 25
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health?probe=ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("not ready within 25 s")
