"""The causes that the preflight distinguishes, on real servers."""

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from app import migrate, preflight
from app.core.dberrors import Kind
from tests.conftest import AUTH_SECRET, NewServer
from tests.postgres import PASSWORD, USER, Postgres, free_port

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(preflight, "LASTING_SECONDS", 0.5)

    def running(url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr("sys.stdin", io.StringIO(url))
        code = preflight.main(["--stdin", *arguments])
        output = capsys.readouterr().out
        assert output.count("\n") == 1
        assert PASSWORD not in output
        assert "p%40ss" not in output
        return code, json.loads(output)

    return running


@pytest.fixture
def sleeper(server: Postgres) -> Iterator[Callable[[float], int]]:
    """A proxy that takes connections at once and passes them on after a while, like Neon's."""
    stop = threading.Event()
    sockets: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(listener: socket.socket, delay: float) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                sockets.append(client)
                if client.recv(1, socket.MSG_PEEK) and not stop.wait(delay):
                    backend = socket.create_connection(("127.0.0.1", server.port))
                    sockets.append(backend)
                    for pair in ((client, backend), (backend, client)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

    def start(delay: float) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        threading.Thread(target=serve, args=(listener, delay), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    stop.set()
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_all_is_well(server: Postgres, run: Run) -> None:
    code, found = run(server.url())
    assert (code, found["ok"], found["kind"], found["attempts"]) == (0, True, "", 1)
    assert found["target"] == f"{USER}@127.0.0.1:{server.port}/postgres"
    assert found["addresses"] == ["127.0.0.1"]
    assert found["server"].startswith("18")
    assert (found["tls"], found["pooled"], found["woke_ms"]) == (False, False, None)


def test_from_the_mounted_secret(
    server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AUTH_SECRET", AUTH_SECRET)
    monkeypatch.setenv("DATABASE_URL", server.url())
    assert preflight.main([]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    monkeypatch.delenv("DATABASE_URL")
    assert preflight.main([]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], "DATABASE_URL is not set" in found["text"]) == ("settings", True)


@pytest.mark.parametrize(
    ("change", "kind", "step"),
    [
        ({"password": "not-the-password"}, Kind.WRONG_PASSWORD, "authentication"),
        ({"database": "nowhere"}, Kind.NO_SUCH_DATABASE, "database"),
        ({"query": "?sslmode=require"}, Kind.TLS_REFUSED, "TLS"),
    ],
)
def test_refusals(
    server: Postgres, run: Run, change: dict[str, str], kind: Kind, step: str
) -> None:
    code, found = run(server.url(**change))
    assert (code, found["kind"], found["step"]) == (1, kind, step)
    assert found["advice"].endswith(".")


@pytest.mark.parametrize(
    ("host", "step", "text"),
    [
        ("no-such-host.invalid:5432", "name resolution", "no-such-host.invalid does not resolve"),
        ("127.0.0.1:{free}", "connection", "Connection refused"),
    ],
)
def test_nobody_there(run: Run, host: str, step: str, text: str) -> None:
    code, found = run(f"postgresql://{USER}@{host.format(free=free_port())}/x")
    assert (code, found["kind"], found["step"]) == (1, Kind.UNREACHABLE, step)
    assert text in found["text"]


def test_a_role_that_may_not_create_tables(
    server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def look() -> dict[str, Any]:
        preflight.main([])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert "p%40ss" not in json.dumps(found)
        return found

    owner = server.create_database("granted")
    quoted = PASSWORD.replace("'", "''")
    server.execute(f"CREATE ROLE \"guest-1\" LOGIN PASSWORD '{quoted}'")
    guest = owner.replace(f"//{USER}:", "//guest-1:")
    monkeypatch.setenv("AUTH_SECRET", AUTH_SECRET)
    monkeypatch.setenv("DATABASE_URL", guest)
    found = look()
    assert (found["ok"], found["step"], found["kind"]) == (False, "migrations", "missing privilege")
    assert found["text"] == "role guest-1 may not create tables in schema public"
    grant = 'GRANT USAGE, CREATE ON SCHEMA public TO "guest-1"'
    assert found["advice"].endswith(f": {grant};")
    # Another role migrates.
    monkeypatch.setenv("DATABASE_URL_UNPOOLED", owner)
    assert look()["ok"]
    monkeypatch.delenv("DATABASE_URL_UNPOOLED")
    server.execute(grant, "granted")
    assert look()["ok"]
    # Nothing is left to create, so nothing need be allowed but to see that.
    server.execute('REVOKE CREATE ON SCHEMA public FROM "guest-1"', "granted")
    migrate.run(owner)
    found = look()
    assert "permission denied for table alembic_version" in found["text"]
    server.execute('GRANT SELECT ON alembic_version, schema_history TO "guest-1"', "granted")
    assert look()["ok"]


@pytest.mark.parametrize("pod", [True, False])
def test_a_database_that_other_code_has_migrated(
    server: Postgres,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pod: bool,
) -> None:
    database = f"diverged_{pod}".lower()
    url = server.create_database(database)
    migrate.run(url)
    server.execute("INSERT INTO schema_history VALUES ('0999', '0999_theirs')", database)
    server.execute("UPDATE alembic_version SET version_num = '0999'", database)
    known = migrate.known_migrations()
    monkeypatch.setattr(
        migrate, "known_migrations", lambda: known | {"0999": migrate.Migration("0999_mine", None)}
    )
    if pod:
        monkeypatch.setenv("AUTH_SECRET", AUTH_SECRET)
        monkeypatch.setenv("DATABASE_URL", url)
        code, found = preflight.main([]), json.loads(capsys.readouterr().out)
    else:
        code, found = run(url)
    assert (code, found["ok"], found["kind"], found["step"]) == (1, False, "diverged", "migrations")
    assert found["text"] == "the database has 0999_theirs, and lacks 0999_mine of this code"
    assert "use a branch of your own" in found["advice"]


def test_the_first_address_that_answers_counts(server: Postgres, run: Run) -> None:
    here = f"127.0.0.1:{server.port}"
    url = server.url().replace(here, f"no-such-host.invalid:{server.port},{here}")
    assert run(url)[0] == 0


def test_a_compute_that_wakes_up(
    server: Postgres,
    run: Run,
    sleeper: Callable[[float], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = sleeper(0.3)
    code, found = run(server.url().replace(f":{server.port}/", f":{port}/"))
    assert (code, found["attempts"]) == (0, 1)
    assert found["connect_ms"] >= 300
    monkeypatch.setattr(preflight, "CONNECT_SECONDS", 2)
    never = sleeper(60)
    url = server.url().replace(f":{server.port}/", f":{never}/")
    code, found = run(url, "--wait", "1")
    assert (code, found["kind"], found["step"]) == (1, Kind.WAKING_UP, "waking up")


def test_a_server_that_starts_meanwhile(
    new_server: NewServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = new_server()
    sleeping.start()
    refusals = iter([psycopg.OperationalError("FATAL:  the database system is starting up")] * 2)
    connect = psycopg.connect

    def waking(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
        for refusal in refusals:
            raise refusal
        return connect(*arguments, **options)

    monkeypatch.setattr(psycopg, "connect", waking)
    code, found = run(sleeping.url())
    assert (code, found["attempts"], found["woke_ms"] > 0) == (0, 3, True)


def test_a_url_that_is_none_is_not_shown(run: Run) -> None:
    code, found = run("postgresql://u:not-a-secret@h:x:y/%zz")
    assert (code, found["step"]) == (1, "settings")
    assert "not-a-secret" not in json.dumps(found)
