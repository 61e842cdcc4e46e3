"""The assistant behind a pooler in transaction mode, like Neon's pooled host.

The pooler has two server connections, so statements of one request run in different sessions. A
lease or a conversation that depends on a session would be lost here.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app import migrate
from app.assistant import lease, repository
from app.assistant.lease import Lease
from app.core.db import Database
from app.core.problems import ProblemError
from tests.assistant.support import (
    Application,
    add,
    ask,
    confirm,
    history,
    lease_until,
    named,
    new_user,
    serving,
    text,
    titles,
)
from tests.neon import OWNER, Direct, Pooler
from tests.openai_server import OpenAIServer, Reply
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

REPLICAS = 2
DATABASE = "neondb"


@pytest.fixture
async def replicas(pooled: Pooler, upstream: OpenAIServer) -> AsyncIterator[list[Application]]:
    migrate.migrate(pooled.url(), 5)
    async with (
        serving(pooled.url(), upstream.url) as one,
        serving(pooled.url(), upstream.url) as two,
    ):
        yield [one, two]


@pytest.fixture
def databases(replicas: list[Application]) -> list[Database]:
    return [replica.app.state.database for replica in replicas]


@pytest.fixture
def user(direct: Direct, replicas: list[Application]) -> UUID:
    _ = replicas  # their schema
    return new_user(direct, DATABASE)


@pytest.fixture
async def clients(
    replicas: list[Application], user: UUID
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One user, signed in at each replica."""
    async with replicas[0].client(user) as here, replicas[1].client(user) as there:
        yield [here, there]


async def refused(work: object, code: str) -> None:
    with pytest.raises(ProblemError) as problem:
        await work  # type: ignore[misc]
    assert (problem.value.status, problem.value.code) == (409, code)


async def test_conversations_at_once_stay_apart(
    replicas: list[Application], direct: Direct
) -> None:
    """More of them than server connections, each with tools, history and a question."""

    async def talk(number: int) -> None:
        client = replicas[number % REPLICAS].client(new_user(direct, DATABASE))
        async with client:
            events = await ask(client, f"add milk {number} and bread {number}")
            assert text(events) == f"Added “milk {number}” and “bread {number}”."
            events = await ask(client, f"complete milk {number}")
            assert [event["name"] for event in named(events, "tool")] == [
                "list_todos", "complete_todo",
            ]  # fmt: skip
            question = named(await ask(client, "delete all"), "confirmation")[0]
            assert len(question["todos"]) == 2
            await confirm(client, question["id"], approve=number % 2 == 0)
            left = [] if number % 2 == 0 else [f"milk {number}", f"bread {number}"]
            assert await titles(client) == left
            said = [text for role, text in await history(client) if role == "user"]
            assert said == [
                f"add milk {number} and bread {number}", f"complete milk {number}", "delete all",
            ]  # fmt: skip

    await asyncio.gather(*(talk(number) for number in range(6)))
    with psycopg.connect(direct.url(DATABASE)) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [OWNER]
        ).fetchone()
        assert row is not None
        assert 1 <= row[0] <= Pooler.SIZE
        locks = conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert locks.fetchone() == (0,)


async def test_of_two_at_once_the_second_is_refused(
    clients: list[httpx.AsyncClient], upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 1.0)
    hold = threading.Event()

    def held(_: object) -> Reply:
        hold.wait()
        return Reply(text=("Done.",))

    upstream.brain = held
    answers = [
        asyncio.create_task(client.post("/assistant", json={"message": "hello"}))
        for client in clients
    ]
    done, going = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().json()["code"] for task in done] == ["assistant-busy"]
    assert len(upstream.received) == 1
    hold.set()
    assert (await going.pop()).status_code == 200
    assert await history(clients[0]) == [("user", "hello"), ("assistant", "Done.")]
    assert text(await ask(clients[1], "hello")) == "Done."


async def test_exactly_one_takes_a_lease(databases: list[Database], user: UUID) -> None:
    async def take(number: int) -> bool:
        async with databases[number % REPLICAS].connection() as conn:
            return await repository.take_lease(conn, user, uuid4(), 30) is not None

    taken = await asyncio.gather(*(take(number) for number in range(20)))
    assert taken.count(True) == 1


async def test_a_lease_is_renewed_expires_and_is_taken_over(
    databases: list[Database], user: UUID, direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = databases
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.2)
    mine = await Lease.take(here, user)
    until = lease_until(direct.url(DATABASE), user)
    async with mine.kept():
        await eventually(lambda: lease_until(direct.url(DATABASE), user) > until)
        await refused(Lease.take(there, user), "assistant-busy")
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    await mine.renew()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 30.0)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 60)
    theirs = await Lease.take(there, user)  # as soon as it has expired
    # Its holder of before may neither go on, nor store, nor end what is not his any more.
    await refused(mine.renew(), "assistant-interrupted")
    async with here.connection() as conn:
        written = repository.Written(uuid4(), "late", [], [])
        assert not await repository.store(conn, user, mine.holder, None, written)
    await mine.release()
    await theirs.renew()
    await theirs.release()
    await (await Lease.take(here, user)).release()
    direct.execute(f"DELETE FROM users WHERE id = '{user}'", DATABASE)


async def test_who_lost_the_lease_changes_nothing_more(
    clients: list[httpx.AsyncClient], upstream: OpenAIServer, direct: Direct, user: UUID
) -> None:
    def stolen(_: object) -> Reply:
        direct.execute(
            f"UPDATE assistant_leases SET holder = gen_random_uuid() WHERE user_id = '{user}'",
            DATABASE,
        )
        return Reply(text=("I add it.",), calls=(("add_todo", {"title": "late"}),))

    upstream.brain = stolen
    events = await ask(clients[0], "add late")
    assert events[-1][1]["code"] == "assistant-interrupted"
    assert await titles(clients[1]) == []
    assert await history(clients[1]) == []


async def test_a_question_is_found_and_answered_once_at_any_replica(
    clients: list[httpx.AsyncClient],
) -> None:
    here, there = clients
    todos = await add(here, "milk", "bread")
    question = named(await ask(here, "delete all"), "confirmation")[0]
    assert (await there.get("/assistant")).json()["confirmation"] == question
    path = f"/assistant/confirmations/{question['id']}"
    answers = await asyncio.gather(
        *(client.post(path, json={"approve": True}) for client in (here, there, here, there))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert await titles(there) == []
    state = (await here.get("/assistant")).json()
    assert (state["confirmation"], state["messages"][-1]["touched"]) == (None, todos)
    again = await there.post(path, json={"approve": True})
    assert (again.status_code, again.json()["code"]) == (409, "confirmation-answered")
    assert (await there.delete("/assistant")).status_code == 204
    assert await history(here) == []
