"""The application as a process of its own, as the image starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.postgres import free_port
from tests.waiting import LOOK_SECONDS, Bound

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
    with started(module, source, **settings | environment) as process:
        yield process, f"http://127.0.0.1:{port}/api/v1"


@contextmanager
def started(
    module: str, source: Path | None = None, *arguments: str, **environment: str
) -> Iterator[Process]:
    """A Python module in a process, which is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=source,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status_of(url: str, headers: dict[str, str] | None = None) -> int:
    """0 while nobody listens."""
    try:
        return httpx.get(url, headers=headers).status_code
    except httpx.TransportError:
        return 0


def wait_for(
    url: str, status: int = 200, seconds: float = 25, headers: dict[str, str] | None = None
) -> None:
    bound = Bound(seconds)
    while (current := status_of(url, headers)) != status:
        bound.check(f"{url}: {current}")
        time.sleep(LOOK_SECONDS)


def wait_until_ready(url: str) -> None:
    wait_for(f"{url}/health?probe=ready", seconds=50)
