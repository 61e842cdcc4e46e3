"""Liveness, readiness and outages of a real server."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from httpx import AsyncClient, Response

from app import __version__, migrate
from app.core import db
from app.core.connections import STORE, Connection, connect_options
from app.core.db import Database, DatabaseUnavailableError, State
from tests.conftest import NewServer, Serve
from tests.postgres import Postgres
from tests.waiting import eventually, known, served, takes_at_most, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def own_server(new_server: NewServer) -> Postgres:
    server = new_server()
    server.start()
    migrate.run(server.url())
    return server


def is_outage_problem(answer: Response) -> bool:
    return (
        answer.status_code == 503
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["code"] == "database-unavailable"
        and int(answer.headers["retry-after"]) > 0
    )


async def test_a_healthy_application(client: AsyncClient) -> None:
    async def ready() -> bool:
        return (await client.get("/health?probe=ready")).status_code == 200

    await within(5, ready)
    assert (await client.get("/health")).json() == {
        "status": "ok",
        "database": "ok",
        "environment": "test",
        "version": __version__,
    }


async def test_an_outage_is_said_at_once_and_over_at_once(
    own_server: Postgres, serve: Serve
) -> None:
    async with serve(own_server.url()) as client:
        assert (await client.post("/todos", json={"title": "kept"})).status_code == 201
        own_server.stop()
        try:
            for _ in range(3):
                with takes_at_most(3):
                    answers = await asyncio.gather(
                        client.get("/todos"), client.post("/todos", json={"title": "lost"})
                    )
                assert all(is_outage_problem(answer) for answer in answers)
                health = await client.get("/health")
                assert (health.status_code, health.json()["database"]) == (200, "unavailable")
                # Once reached, a pod stays in rotation: it is not the one that is broken.
                assert (await client.get("/health?probe=ready")).status_code == 200
        finally:
            own_server.start()

        await served(client, 5)
        assert [todo["title"] for todo in (await client.get("/todos")).json()] == ["kept"]
        assert (await client.get("/health")).json()["database"] == "ok"


async def test_health_notices_an_outage_without_any_request(
    own_server: Postgres, serve: Serve
) -> None:
    async with serve(own_server.url()) as client:
        await client.get("/todos")
        own_server.stop()
        try:

            async def noticed() -> bool:
                return bool((await client.get("/health")).json()["database"] == "unavailable")

            await within(3, noticed)
        finally:
            own_server.start()


async def test_health_notices_the_return_without_any_request(
    own_server: Postgres, serve: Serve
) -> None:
    async with serve(own_server.url()) as client:
        await client.get("/todos")
        own_server.stop()
        await client.get("/todos")
        own_server.start()

        async def noticed() -> bool:
            return bool((await client.get("/health")).json()["database"] == "ok")

        await within(5, noticed)


async def test_a_pod_that_starts_during_an_outage_waits_and_becomes_ready(
    own_server: Postgres, serve: Serve
) -> None:
    own_server.stop()
    try:
        async with serve(own_server.url()) as client:
            answer = await client.get("/health?probe=ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
            assert (await client.get("/health")).status_code == 200
            assert is_outage_problem(await client.get("/todos"))
            own_server.start()

            async def ready() -> bool:
                return (await client.get("/health?probe=ready")).status_code == 200

            await within(5, ready)
            assert (await client.get("/todos")).status_code == 200
    finally:
        if not own_server.runs:
            own_server.start()


async def test_a_wrong_password_never_becomes_ready_and_is_logged_once(
    server: Postgres, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(server.url(password="wrong-password")) as client:
        assert (await known(client, 5))["database"] == "unavailable"
        await asyncio.sleep(1.7)  # tries again
        assert (await client.get("/health?probe=ready")).status_code == 503
    causes = [r.getMessage() for r in caplog.records if r.name == "app.core.db"]
    assert len(causes) == 1
    assert "wrong password" in causes[0]
    assert "wrong-password" not in caplog.text


async def test_connections_that_were_cut_while_idle_cost_no_request(
    server: Postgres, client: AsyncClient
) -> None:
    await asyncio.gather(*(client.get("/todos") for _ in range(10)))
    for _ in range(3):
        server.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE application_name = 'todo-backend'"
        )
        answers = await asyncio.gather(*(client.get("/todos") for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10


async def test_a_server_that_hangs_is_given_up(own_server: Postgres, serve: Serve) -> None:
    async with serve(own_server.url()) as client:
        assert (await client.get("/todos")).status_code == 200
        own_server.freeze()
        try:
            with takes_at_most(4):
                assert is_outage_problem(await client.get("/todos"))
        finally:
            own_server.thaw()

        await served(client, 5)


async def test_a_database_that_closes_leaves_no_connection_open(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Connection] = []
    connect = Connection.connect

    async def remember(url: str, **options: Any) -> Connection:
        opened.append(await connect(url, **options))
        return opened[-1]

    async def never(_: Connection) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Connection, "connect", staticmethod(remember))
    monkeypatch.setattr(Connection, "commit", never)
    database = Database(server.url())
    await database.open()
    await eventually(lambda: database.state is State.OK)
    await database.close()
    assert opened
    assert all(connection.closed for connection in opened)


async def test_a_statement_that_hangs_is_cut(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "WORK_SECONDS", 0.2)
    database = Database(server.url())
    await database.open()
    try:
        with takes_at_most(2), pytest.raises(DatabaseUnavailableError):
            async with database.connection() as conn:
                await conn.execute("SELECT pg_sleep(10)")
        assert database.state is State.UNAVAILABLE
        async with database.connection() as conn:
            await conn.execute("SELECT 1")
        assert str(database.state) == "ok"
    finally:
        await database.close()


@pytest.mark.usefixtures("patient")
async def test_no_more_connections_than_agreed(server: Postgres, serve: Serve) -> None:
    async with serve(server.url(query="?application_name=counted")) as client:
        answers = await asyncio.gather(*(client.get("/todos") for _ in range(100)))
        assert {answer.status_code for answer in answers} == {200}
        with psycopg.connect(server.url()) as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"
            ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= db.MAX_CONNECTIONS


def test_what_the_url_says_is_not_overruled() -> None:
    options = connect_options("postgresql://a/b?connect_timeout=9&application_name=mine", 2)
    assert "connect_timeout" not in options
    assert "application_name" not in options
    assert options["prepare_threshold"] is None


def test_the_systems_authorities_are_a_file_that_libpq_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert Path(STORE).read_text().count("BEGIN CERTIFICATE") > 50
    url = "postgresql://a/b?sslrootcert=system"
    for verified in (url, f"{url}&sslmode=verify-full"):
        options = connect_options(verified, 2)
        assert (options["sslrootcert"], options["sslmode"]) == (STORE, "verify-full")
    assert "sslrootcert" not in connect_options(f"{url}&sslmode=require", 2)  # libpq refuses it
    assert "sslrootcert" not in connect_options("postgresql://a/b?sslrootcert=/own.pem", 2)
    monkeypatch.setenv("SSL_CERT_DIR", "/own")
    assert "sslrootcert" not in connect_options(url, 2)
