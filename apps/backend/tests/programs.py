"""Programs that PyPI does not have: the Dockerfile's target `test` installs them."""

import os
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.waiting import LOOK_SECONDS, Bound

SERVERS = Path(os.environ.get("TEST_SERVERS", "/opt/servers"))
POSTGRES = SERVERS / "usr/lib/postgresql/17/bin"
PGBOUNCER = SERVERS / "usr/sbin/pgbouncer"
TOXIPROXY = SERVERS / "usr/bin/toxiproxy-server"
START_SECONDS = 10


def environment() -> dict[str, str]:
    """For programs with libraries of their own."""
    return os.environ | {"LD_LIBRARY_PATH": str(SERVERS / "lib")}


class Program:
    """Runs while its context is entered, which is when it answers."""

    def __init__(self, *command: str | Path) -> None:
        self._command = command

    def answers(self) -> bool:
        raise NotImplementedError

    def trouble(self) -> str:
        """What to read if it does not start."""
        return f"{self._command[0]} does not start"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        bound = Bound(START_SECONDS)
        while not self.answers():
            assert self._process.poll() is None, self.trouble()
            assert bound.left > 0, self.trouble()
            time.sleep(LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
