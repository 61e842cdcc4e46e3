"""Pods that start during an outage: none exits, and none needs a restart."""

import json
import signal
import subprocess
from contextlib import AbstractContextManager

import httpx
import pytest

from app import migrate
from app.users.repository import LOCAL_USER_ID
from tests.conftest import AUTH_SECRET, NewServer, bearer
from tests.postgres import Postgres
from tests.processes import Process, running, started, status_of, wait_for
from tests.waiting import takes_at_most, wait_until

SIGNED_IN = bearer(LOCAL_USER_ID)


@pytest.fixture
def absent(new_server: NewServer) -> Postgres:
    """A server with its schema, which does not run."""
    server = new_server()
    server.start()
    migrate.run(server.url())
    server.stop()
    return server


def lines(output: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_pod_that_starts_during_an_outage(absent: Postgres) -> None:
    with running(DATABASE_URL=absent.url(), AUTH_SECRET=AUTH_SECRET) as (process, url):
        wait_for(f"{url}/health")
        assert status_of(f"{url}/health?probe=ready") == 503
        assert status_of(f"{url}/todos", SIGNED_IN) == 503
        wait_until(lambda: httpx.get(f"{url}/health").json()["database"] == "unavailable")
        assert httpx.get(f"{url}/health").json()["database_cause"] == "unreachable"
        absent.start()
        wait_for(f"{url}/health?probe=ready", seconds=5)
        wait_for(f"{url}/todos", seconds=5, headers=SIGNED_IN)
        # And an outage later: in rotation all the time, and the same process serves afterwards.
        absent.stop()
        assert status_of(f"{url}/todos", SIGNED_IN) == 503
        assert status_of(f"{url}/health?probe=ready") == 200
        assert httpx.get(f"{url}/health").json()["database"] == "unavailable"
        absent.start()
        wait_for(f"{url}/todos", seconds=5, headers=SIGNED_IN)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    told = [
        line["message"]
        for line in lines(output)
        if line["logger"] in {"app.core.db", "app.migrate"}
    ]
    # A starting server refuses in several ways, and a slow one is reached and lost again.
    assert list(dict.fromkeys(message.split(":")[0] for message in told)) == [
        "waiting for the database", "schema is up to date", "database reached", "database lost",
        "database unavailable",
    ]  # fmt: skip
    assert told[-1] == "database reached"


def test_it_ends_soon_during_an_outage(absent: Postgres) -> None:
    with running(DATABASE_URL=absent.url(), AUTH_SECRET=AUTH_SECRET) as (process, url):
        wait_for(f"{url}/health")
        process.send_signal(signal.SIGTERM)
        with takes_at_most(5):
            _, errors = process.communicate()
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")


def migrating(server: Postgres) -> AbstractContextManager[Process]:
    return started("app.migrate", DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET)


def first_line(process: Process) -> dict[str, str]:
    assert process.stdout is not None
    line: dict[str, str] = json.loads(process.stdout.readline())
    return line


def test_a_migration_waits_for_the_end_of_an_outage(absent: Postgres) -> None:
    with migrating(absent) as process:
        first = first_line(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        absent.start()
        with takes_at_most(8):  # its pause is 1 s at most, then it works
            output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert first["message"].startswith("waiting for the database: unreachable")
    assert first["cause"] == "unreachable"
    # A starting server refuses in other ways too.
    *waiting, last = [line["message"] for line in lines(output)]
    assert all(message.startswith("waiting for the database: ") for message in waiting)
    assert last == "schema is up to date"


def test_a_migration_ends_when_it_is_told_to(absent: Postgres) -> None:
    with migrating(absent) as process:
        first_line(process)  # it waits now
        process.send_signal(signal.SIGTERM)
        with takes_at_most(3):
            assert process.wait() == migrate.EXIT_TERMINATED
