"""A compute that sleeps, and a network that fails: Toxiproxy stands before a real server.

At Neon the proxy takes a connection and says nothing until the compute is awake. Here Toxiproxy
takes it and holds what is said; releasing it is the moment at which the compute is awake.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from httpx import AsyncClient, Response

from app.core import db
from app.core.db import Database, DatabaseUnavailableError
from tests.conftest import Serve
from tests.postgres import Postgres
from tests.toxiproxy import Toxiproxy
from tests.waiting import served, takes_at_most, within

pytestmark = pytest.mark.anyio

type Answer = tuple[Response, float]
type Stuck = asyncio.Task[Answer]


@pytest.fixture
def proxy(server: Postgres) -> Iterator[Toxiproxy]:
    with Toxiproxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def url(server: Postgres, proxy: Toxiproxy) -> str:
    server.execute("TRUNCATE todos, idempotency_keys")
    return server.url().replace(f":{server.port}/", f":{proxy.port}/")


@pytest.fixture
async def asleep(url: str, proxy: Toxiproxy, serve: Serve) -> AsyncIterator[AsyncClient]:
    """The application has run for a while; then the compute went to sleep."""
    async with serve(url) as client:
        await served(client, 5)
        proxy.cut()
        proxy.heal()
        proxy.hold()
        yield client


async def timed(client: AsyncClient, method: str = "GET") -> Answer:
    started = time.monotonic()
    body = {"title": "kept"} if method == "POST" else None
    return await client.request(method, "/todos", json=body), time.monotonic() - started


async def after(seconds: float, proxy: Toxiproxy) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(proxy.release)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_a_short_wake_up_costs_no_request(
    seconds: float, patient: None, asleep: AsyncClient, proxy: Toxiproxy
) -> None:
    _ = patient  # before the application
    waking = asyncio.create_task(after(seconds, proxy))
    answers = await asyncio.gather(*(timed(asleep, method) for method in ("GET", "POST", "GET")))
    await waking
    assert [answer.status_code for answer, _ in answers] == [200, 201, 200]
    assert all(took > seconds - 0.1 for _, took in answers)


async def test_a_long_wake_up_is_answered_after_two_seconds_and_the_retry_succeeds(
    asleep: AsyncClient, proxy: Toxiproxy
) -> None:
    with takes_at_most(2.6):
        answer, took = await timed(asleep, "POST")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert took > 1.5
    await asyncio.sleep(int(answer.headers["retry-after"]))
    waking = asyncio.create_task(after(0.5, proxy))
    answer, _ = await timed(asleep, "POST")
    await waking
    assert answer.status_code == 201
    assert [todo["title"] for todo in (await asleep.get("/todos")).json()] == ["kept"]


async def test_a_request_that_comes_during_the_wake_up_gets_its_two_seconds(
    asleep: AsyncClient, proxy: Toxiproxy
) -> None:
    first = asyncio.create_task(timed(asleep))
    await asyncio.sleep(1.6)
    second = asyncio.create_task(timed(asleep))
    assert (await first)[0].status_code == 503
    await asyncio.to_thread(proxy.release)
    assert (await second)[0].status_code == 200


async def test_many_requests_at_once_wait_together(
    patient: None, asleep: AsyncClient, proxy: Toxiproxy
) -> None:
    _ = patient  # before the application
    waking = asyncio.create_task(after(1, proxy))
    answers = await asyncio.gather(*(timed(asleep) for _ in range(60)))
    await waking
    assert {answer.status_code for answer, _ in answers} == {200}


@pytest.mark.parametrize("fault", ["cut", "reset", "swallow"])
async def test_a_network_that_fails_is_said_and_over_at_once(
    fault: str, url: str, proxy: Toxiproxy, serve: Serve
) -> None:
    async with serve(url) as client:
        await served(client, 5)
        getattr(proxy, fault)()
        statuses = set()
        for _ in range(3):
            with takes_at_most(db.WAIT_SECONDS + db.WORK_SECONDS):
                statuses.add((await client.get("/todos")).status_code)
            assert (await client.get("/health")).status_code == 200
        assert statuses == {503}
        assert (await client.get("/health")).json()["database"] == "unavailable"
        proxy.heal()
        await served(client, 2)


async def test_idle_connections_that_were_cut_cost_one_request_alone_nothing(
    server: Postgres, client: AsyncClient
) -> None:
    """One after the other: each dead connection of the pool would cost another pause."""
    for _ in range(3):
        await asyncio.gather(*(client.get("/todos") for _ in range(20)))
        terminate(server)
        with takes_at_most(1):
            assert (await client.get("/todos")).status_code == 200


def terminate(server: Postgres, condition: str = "true") -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        f" WHERE application_name = 'todo-backend' AND {condition}"
    )


@asynccontextmanager
async def stuck(server: Postgres, working: Coroutine[None, None, Answer]) -> AsyncIterator[Stuck]:
    """Begins some work on todos and waits until its statement waits for a lock."""
    with (
        psycopg.connect(server.url()) as blocker,
        psycopg.connect(server.url(), autocommit=True) as watcher,
    ):
        blocker.execute("LOCK TABLE todos IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(working)

        async def waits() -> bool:
            locked = watcher.execute(
                "SELECT 1 FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND application_name = 'todo-backend'"
            )
            return locked.fetchone() is not None

        await within(2, waits)
        yield task


async def test_a_connection_that_is_cut_in_the_middle_of_a_statement(
    server: Postgres, client: AsyncClient
) -> None:
    async with stuck(server, timed(client, "POST")) as adding:
        await asyncio.to_thread(terminate, server, "wait_event_type = 'Lock'")
        answer, _ = await adding
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert (await client.get("/todos")).json() == []  # the statement was undone
    answer, _ = await timed(client, "POST")
    assert answer.status_code == 201


async def test_an_answer_that_is_lost_makes_no_second_todo(
    server: Postgres, url: str, proxy: Toxiproxy, serve: Serve
) -> None:
    """Whoever gets 503 cannot know whether it was written; the key makes the retry safe."""
    async with serve(url) as client:
        client.headers["Idempotency-Key"] = "not-a-secret-key-1"
        async with stuck(server, timed(client, "POST")) as adding:
            await asyncio.to_thread(proxy.deafen)
        # The lock is gone: the server writes and says so in vain.
        with takes_at_most(db.WAIT_SECONDS + db.WORK_SECONDS):
            answer, _ = await adding
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
        await asyncio.to_thread(proxy.heal)
        answer, _ = await timed(client, "POST")
        assert answer.status_code == 201
        assert [todo["id"] for todo in (await client.get("/todos")).json()] == [answer.json()["id"]]


async def too_long(database: Database) -> None:
    async with database.connection() as conn, conn.transaction():
        await conn.execute("SET LOCAL statement_timeout = 50")
        await conn.execute("SELECT pg_sleep(5)")


async def test_a_statement_that_is_cancelled_is_no_outage(server: Postgres) -> None:
    database = Database(server.url())
    await database.open()
    try:
        with pytest.raises(DatabaseUnavailableError) as refused:
            await too_long(database)
        assert "statement timeout" in refused.value.cause.text
        assert database.state is db.State.OK
        assert database.cause is None
    finally:
        await database.close()


async def test_more_work_than_connections_is_no_outage(server: Postgres) -> None:
    database = Database(server.url())
    await database.open()

    async def work() -> None:
        async with database.connection() as conn:
            await conn.execute("SELECT pg_sleep(2.5)")

    async def more() -> None:
        await asyncio.sleep(0.2)
        with pytest.raises(DatabaseUnavailableError, match="busy"):
            await work()
        assert database.state is db.State.OK

    try:
        await asyncio.gather(*(work() for _ in range(db.MAX_CONNECTIONS)), more())
        assert database.figures()["pool_size"] == db.MAX_CONNECTIONS
    finally:
        await database.close()
