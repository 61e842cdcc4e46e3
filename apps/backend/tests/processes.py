"""The application as a process of its own, as the image starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.postgres import free_port

type Process = subprocess.Popen[str]


@contextmanager
def running(
    source: Path | None = None, module: str = "app", **environment: str
) -> Iterator[tuple[Process, str]]:
    """The application in folder `source` (default: this one) and the address of its API.

    METRICS_PORT=0 means any port that is free.
    """
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "METRICS_PORT": "0"}
    process = start(module, source, **settings | environment)
    try:
        yield process, f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.kill()
        process.communicate()


def start(module: str, source: Path | None = None, **environment: str) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=source,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def status_of(url: str, headers: dict[str, str] | None = None) -> int:
    """0 while nobody listens."""
    try:
        return httpx.get(url, headers=headers, timeout=5).status_code
    except httpx.TransportError:
        return 0


def wait_for(
    url: str, status: int = 200, seconds: float = 25, headers: dict[str, str] | None = None
) -> float:
    """Waits for this status and returns after how many seconds it came."""
    started = time.monotonic()
    while (current := status_of(url, headers)) != status:
        assert time.monotonic() - started < seconds, f"{url}: {current} after {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - started


def wait_until(happened: Callable[[], bool], seconds: float = 25) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_ready(url: str) -> None:
    wait_for(f"{url}/health?probe=ready", seconds=50)
