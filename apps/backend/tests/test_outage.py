"""Pods that start during an outage: nothing exits, nothing must be restarted."""

import json
import signal
import subprocess
import time
from itertools import groupby

import httpx
import pytest

from app import migrate
from app.users.repository import LOCAL_USER_ID
from tests.conftest import AUTH_SECRET, NewServer, bearer
from tests.postgres import Postgres
from tests.processes import Process, running, start, status_of, wait_for, wait_until

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
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    told = [
        line["message"]
        for line in lines(output)
        if line["logger"] in {"app.core.db", "app.migrate"}
    ]
    # A starting server refuses in several ways; the log has each.
    assert [message for message, _ in groupby(message.split(":")[0] for message in told)] == [
        "waiting for the database", "schema is up to date", "database reached", "database lost",
        "database unavailable", "database reached",
    ]  # fmt: skip


def test_it_ends_soon_during_an_outage(absent: Postgres) -> None:
    with running(DATABASE_URL=absent.url(), AUTH_SECRET=AUTH_SECRET) as (process, url):
        wait_for(f"{url}/health")
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, errors = process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")


def migrating(server: Postgres) -> Process:
    return start("app.migrate", DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET)


def test_a_migration_waits_for_the_end_of_an_outage(absent: Postgres) -> None:
    process = migrating(absent)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=4)
        absent.start()
        started = time.monotonic()
        output, errors = process.communicate(timeout=10)
        assert time.monotonic() - started < 8  # its pause is 1 s at most, then it works
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    told = lines(output)
    assert told[0]["message"].startswith("waiting for the database: unreachable")
    assert told[0]["cause"] == "unreachable"
    assert told[-1]["message"] == "schema is up to date"
    assert len(told) == 2


def test_a_migration_ends_when_it_is_told_to(absent: Postgres) -> None:
    process = migrating(absent)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it waits now
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=3) == migrate.EXIT_TERMINATED
    finally:
        process.kill()
        process.communicate()
