"""A pod's answers from its start until it serves, and its end during the start."""

import asyncio
import os
import selectors
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn

from app import __version__, migrate
from app.core import ending, gate
from app.core.dberrors import Kind
from app.core.gate import Gate
from app.core.logging import JsonFormatter
from app.core.problems import Problem
from app.core.streams import Shutdown
from app.health.schemas import Health
from app.server import Server
from app.start import Schema
from tests.conftest import AUTH_SECRET
from tests.postgres import Postgres, free_port
from tests.processes import Process, running, status_of, wait_for, wait_until_ready
from tests.waiting import takes_at_most, wait_until

_numbers = count()


@pytest.fixture
def empty(server: Postgres) -> str:
    return server.create_database(f"start_{next(_numbers)}")


@pytest.fixture
def door() -> Iterator[Gate]:
    door = Gate("127.0.0.1", free_port())
    yield door
    door.close()
    door.socket.close()


def query(url: str, statement: str) -> object:
    with psycopg.connect(url) as conn:
        row = conn.execute(statement.encode()).fetchone()
    return None if row is None else row[0]


@contextmanager
def starting_behind_the_lock(url: str) -> Iterator[tuple[psycopg.Connection, Process, str]]:
    """The application, whose migration waits for the lock that the connection has."""
    with psycopg.connect(url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [migrate.LOCK_KEY])
        with running(DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET) as (process, api):
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_until(lambda: query(url, waiting) == 1)
            yield conn, process, api


def test_the_server_sends_a_body_without_waiting_for_an_acknowledgement(door: Gate) -> None:
    door.close()  # the server accepts from now on
    with socket.create_connection(door.socket.getsockname()):
        connection, _ = door.socket.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def is_alive_and_not_ready(api: str) -> None:
    assert httpx.head(f"{api}/health").status_code == 200
    alive = httpx.get(f"{api}/health")
    assert alive.status_code == 200
    assert alive.headers["x-served-by"] == gate.SERVED_BY
    health = Health.model_validate_json(alive.content)
    assert (health.environment, health.version) == ("dev", __version__)
    for path, code in (("/health?probe=ready", "not-ready"), ("/todos", "starting")):
        answer = httpx.get(f"{api}{path}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.headers["content-type"] == "application/problem+json"
        assert Problem.model_validate_json(answer.content).code == code


def test_liveness_is_answered_before_the_imports_end(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("import time\ntime.sleep(600)\n")
    with running(
        DATABASE_URL="postgresql://h/d", AUTH_SECRET=AUTH_SECRET, PYTHONPATH=str(tmp_path)
    ) as (process, api):
        wait_for(f"{api}/health")
        is_alive_and_not_ready(api)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


def test_a_migration_that_waits_for_the_lock_is_alive_and_then_ready(empty: str) -> None:
    with starting_behind_the_lock(empty) as (lock, process, api):
        is_alive_and_not_ready(api)
        lock.rollback()
        wait_until_ready(api)
        assert (
            query(empty, "SELECT version_num FROM alembic_version")
            == list(migrate.known_migrations())[-1]
        )
        assert status_of(f"{api}/todos") == 401
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert output.index("waiting for the migration") < output.index("schema migrated")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_and_its_migration(empty: str, number: signal.Signals) -> None:
    with starting_behind_the_lock(empty) as (lock, process, _):
        (child,) = children_of(process)
        process.send_signal(number)
        with takes_at_most(5):
            _, errors = process.communicate()
        assert (process.returncode, errors) == (128 + number, "")
        wait_until(lambda: not Path(f"/proc/{child}").exists())
        lock.rollback()
    assert query(empty, "SELECT to_regclass('todos')::text") is None


def children_of(process: Process) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def test_a_failed_migration_ends_the_process_with_its_cause(empty: str) -> None:
    with psycopg.connect(empty) as conn:
        conn.execute("CREATE TABLE todos (somebody_elses int)")
    with running(DATABASE_URL=empty, AUTH_SECRET=AUTH_SECRET) as (process, _):
        output, errors = process.communicate()
    assert process.returncode == 1, output
    assert errors.startswith("migration failed (todo@127.0.0.1:")
    assert 'relation "todos" already exists' in errors
    assert errors.count("\n") == 1
    assert "stopped" not in output


def test_a_migration_that_is_killed_is_said_to_be(empty: str) -> None:
    with starting_behind_the_lock(empty) as (_, process, _api):
        (child,) = children_of(process)
        os.kill(child, signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGKILL
    assert errors == "migration failed: signal 9 ended its process\n"


def test_a_refusal_ends_the_start_with_the_code_of_the_migration(
    server: Postgres,
    door: Gate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(migrate, "LASTING_WAIT_SECONDS", 0.5)
    schema = Schema(server.url(password="another-p@ss"), door, JsonFormatter())
    assert schema.wait() == 4
    assert "wrong password" in capsys.readouterr().err
    assert door.health["database_cause"] == "wrong password"


def test_a_database_that_other_code_has_migrated_ends_the_pod_with_the_reason(
    empty: str,
    door: Gate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    migrate.run(empty)
    with psycopg.connect(empty) as conn:
        conn.execute("UPDATE alembic_version SET version_num = 'a1b2c3'")
    known = migrate.known_migrations()
    monkeypatch.setattr(
        migrate, "known_migrations", lambda: known | {"0999": migrate.Migration("0999_mine", None)}
    )
    assert Schema(empty, door, JsonFormatter()).wait() == migrate.EXIT_CODES[Kind.DIVERGED]
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("migration failed (")
    assert "diverged: the database has a1b2c3, and lacks 0999_mine of this code" in last


def test_two_at_once_migrate_once(empty: str) -> None:
    with (
        running(DATABASE_URL=empty, AUTH_SECRET=AUTH_SECRET) as (one, first),
        running(DATABASE_URL=empty, AUTH_SECRET=AUTH_SECRET) as (two, second),
    ):
        wait_until_ready(first)
        wait_until_ready(second)
        outputs = []
        for process in (one, two):
            process.send_signal(signal.SIGTERM)
            outputs.append(process.communicate()[0])
    assert sum("schema migrated" in output for output in outputs) == 1
    assert query(empty, "SELECT count(*) FROM users") == 1


def test_a_newer_schema_is_ready(empty: str) -> None:
    migrate.run(empty)
    with psycopg.connect(empty) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    with running(DATABASE_URL=empty, AUTH_SECRET=AUTH_SECRET) as (_, api):
        wait_until_ready(api)


def test_a_probe_for_readiness_is_held_until_the_answer_is_yes(
    door: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "HOLD_SECONDS", 0.4)
    url = f"http://127.0.0.1:{door.socket.getsockname()[1]}/api/v1/health?probe=ready"
    assert status_of(url) == 503
    monkeypatch.setattr(gate, "HOLD_SECONDS", 30)
    threading.Timer(0.3, setattr, (door, "is_ready", lambda: True)).start()
    with takes_at_most(3):
        assert status_of(url) == 200


class InstantLoop(asyncio.SelectorEventLoop):
    """Whenever it has nothing to do but wait, its time has passed already."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        select = selector.select
        self._time = 0.0

        def pass_time(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            self._time += timeout or 0
            return select(0)

        selector.select = pass_time  # type: ignore[method-assign]

    def time(self) -> float:
        return self._time


def test_the_server_wakes_once_a_second_and_at_once_for_a_signal() -> None:
    async def run() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        shutdown = Shutdown()
        shutdown.attach()
        server = Server(uvicorn.Config("app"), shutdown)
        ticks = 0
        tick = server.on_tick

        async def counted(counter: int) -> bool:
            nonlocal ticks
            ticks += 1
            return await tick(counter)

        server.on_tick = counted  # type: ignore[method-assign]
        started = loop.time()
        loop.call_later(1.5, server.handle_exit, signal.SIGTERM, None)
        await server.main_loop()
        return ticks, loop.time() - started

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        assert runner.run(run()) == (3, 1.5)


def test_a_client_that_is_silent_or_talks_nonsense_holds_nobody_up(
    door: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = door.socket.getsockname()
    with socket.create_connection(address):  # and says nothing
        assert status_of(f"http://127.0.0.1:{address[1]}/api/v1/health") == 200
    with socket.create_connection(address) as odd:
        odd.sendall(b"\xff\xfe\r\n\r\n")
        assert odd.recv(100).startswith(b"HTTP/1.1 503 ")
    with socket.create_connection(address) as endless, suppress(ConnectionError):
        endless.sendall(b"x" * (gate.MAX_HEAD_BYTES + 8192))
        assert endless.recv(100) == b""
    monkeypatch.setattr(gate, "READ_SECONDS", 0.3)
    with socket.create_connection(address) as silent:
        assert silent.recv(100) == b""


def test_after_its_end_connections_wait_for_the_server(door: Gate) -> None:
    door.close()
    with socket.create_connection(door.socket.getsockname()):
        door.socket.setblocking(True)
        client, _ = door.socket.accept()
        client.close()


def test_the_reason_of_an_end_is_left_where_kubernetes_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "termination-log"
    monkeypatch.setattr(ending, "TERMINATION_MESSAGE", str(file))
    ending.explain_end("there is none outside of a pod")
    assert not file.exists()
    file.write_text("something longer of an earlier end")
    ending.explain_end("the reason")
    assert file.read_text() == "the reason"
    assert capsys.readouterr().err.endswith("the reason\n")
