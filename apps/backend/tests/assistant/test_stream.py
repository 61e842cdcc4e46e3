"""The event stream: framing, heartbeats, clients that disconnect, and one request at a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx
import psycopg
import pytest

from app import migrate
from app.assistant import lease, stream
from app.core import db
from app.core.db import MAX_CONNECTIONS
from tests.assistant.support import (
    KEY,
    Application,
    add,
    ask,
    confirm,
    history,
    lease_until,
    named,
    new_user,
    read,
    serving,
    text,
    titles,
)
from tests.conftest import AUTH_SECRET, bearer
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres
from tests.processes import running, wait_until_ready
from tests.waiting import eventually, takes_at_most

pytestmark = pytest.mark.anyio

HANG = Reply(text=("One moment",), hang="stream")
DONE = Reply(text=("Done.",))


@asynccontextmanager
async def asking(client: httpx.AsyncClient, message: str) -> AsyncIterator[httpx.Response]:
    """A request whose first bytes have come."""
    async with client.stream("POST", "/assistant", json={"message": message}) as answer:
        assert answer.status_code == 200
        yield answer


async def test_events_come_while_the_model_speaks(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(HANG)
    async with asking(client, "hello") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "content-length" not in answer.headers
        async for part in answer.aiter_raw():  # a comment may be before it
            if b"One moment" in part:
                break


async def test_line_breaks_stay_within_the_data(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    said = 'a\n\nevent: done\ndata: {}\r\n\r\n: "b"\u2028c'
    upstream.script(Reply(text=(said,)))
    events = await ask(client, "hello")
    assert [name for name, _ in events] == ["text", "done"]
    assert text(events) == said


async def test_silence_is_filled_with_comments(
    client: httpx.AsyncClient, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(stream, "FIRST_SECONDS", 0.1)
    upstream.script(Reply(text=("late",), pause=0.4))
    answer = await client.post("/assistant", json={"message": "hello"})
    assert answer.text.startswith(": keep-alive\n\n")
    assert answer.text.count(": keep-alive\n\n") >= 4
    assert text(read(answer.text)) == "late"


async def test_a_failure_after_a_comment_is_an_event(
    client: httpx.AsyncClient, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(stream, "FIRST_SECONDS", 0.1)
    upstream.script(Reply(cut=True, pause=0.4))
    events = await ask(client, "hello")
    assert [name for name, _ in events] == ["error"]


@pytest.mark.parametrize("reply", [HANG, Reply(hang="headers")])
async def test_a_client_that_goes_stops_the_model(
    application: Application, client: httpx.AsyncClient, upstream: OpenAIServer, reply: Reply
) -> None:
    upstream.script(Reply(calls=(("add_todo", {"title": "tea"}),)), reply)
    async with asking(client, "add tea"):
        await eventually(lambda: len(upstream.received) == 2)
    await eventually(upstream.received[1].left.is_set)
    # What was done stays done and is remembered, and the user may ask again at once.
    upstream.script(DONE)
    await ask(client, "hello")
    assert await titles(client) == ["tea"]
    assert (await history(client))[0] == ("user", "add tea")
    await eventually(lambda: application.connections_out == 0)


async def test_no_connection_is_held_while_the_model_thinks(
    application: Application, server: Postgres, upstream: OpenAIServer
) -> None:
    """More users than connections wait for the model, and todos are served all the same."""
    upstream.brain = lambda _: HANG
    users = [new_user(server) for _ in range(MAX_CONNECTIONS + 3)]
    gate = asyncio.Event()

    async def wait(user: UUID) -> None:
        async with application.client(user) as client, asking(client, "hello") as answer:
            async for _ in answer.aiter_raw():
                await gate.wait()
                return

    tasks = [asyncio.create_task(wait(user)) for user in users]
    await eventually(lambda: len(upstream.received) == len(users))
    await eventually(lambda: application.connections_out == 0)
    with psycopg.connect(server.url(), autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'todo-backend' AND state <> 'idle'"
        ).fetchone()
    assert row == (0,)
    async with application.client(users[0]) as client:
        assert await add(client, "served meanwhile")
    gate.set()
    await asyncio.gather(*tasks)


async def test_one_request_at_a_time_across_replicas(
    application: Application,
    server: Postgres,
    upstream: OpenAIServer,
    user: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 1.0)
    upstream.brain = lambda _: HANG
    async with (
        serving(server.url(), upstream.url) as replica,
        application.client(user) as here,
        replica.client(user) as there,
        asking(here, "hello"),
    ):
        for client in (here, there):
            with takes_at_most(3):
                answer = await client.post("/assistant", json={"message": "hello"})
            assert (answer.status_code, answer.json()["code"]) == (409, "assistant-busy")
        async with replica.client(new_user(server)) as other, asking(other, "hello"):
            pass


async def test_a_lease_is_renewed_and_expires_with_its_replica(
    client: httpx.AsyncClient,
    server: Postgres,
    upstream: OpenAIServer,
    user: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.2)
    upstream.script(HANG)
    async with asking(client, "hello"):
        until = lease_until(server.url(), user)
        await eventually(lambda: lease_until(server.url(), user) > until)
        answer = await client.post("/assistant", json={"message": "hello"})
        assert answer.json()["code"] == "assistant-busy"
    await eventually(lambda: lease_until(server.url(), user) <= datetime.now(UTC))
    server.execute(
        "INSERT INTO assistant_leases (user_id, holder, expires_at)"  # of a replica that was killed
        f" VALUES ('{user}', gen_random_uuid(), now() + interval '0.3 seconds')"
        " ON CONFLICT (user_id) DO UPDATE SET expires_at = excluded.expires_at"
    )
    upstream.script(DONE)
    await asyncio.sleep(0.4)
    assert text(await ask(client, "hello")) == "Done."


async def test_an_answer_that_was_killed_is_not_taken_for_that_to_the_same_question_before(
    client: httpx.AsyncClient, server: Postgres, upstream: OpenAIServer, user: UUID
) -> None:
    tea = Reply(calls=(("add_todo", {"title": "tea"}),))
    upstream.script(tea, DONE, HANG)
    await ask(client, "add tea")
    with running(
        DATABASE_URL=server.url(),
        AUTH_SECRET=AUTH_SECRET,
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=upstream.url,
    ) as (process, api):
        await asyncio.to_thread(wait_until_ready, api)
        other = httpx.AsyncClient(base_url=api, headers=bearer(user))
        async with other, asking(other, "add tea") as answer:
            assert await anext(answer.aiter_raw())
            process.kill()
    server.execute("UPDATE assistant_leases SET expires_at = now()")
    upstream.script(tea, DONE)
    assert text(await ask(client, "add tea", resume=True)) == "Done."
    assert await titles(client) == ["tea", "tea"]
    # This one was killed when it was stored already: it is shown, and nothing is done twice.
    last = (await client.get("/assistant")).json()["messages"][-1]["id"]
    server.execute(f"INSERT INTO assistant_leases VALUES ('{user}', '{last}', now())")
    assert text(await ask(client, "add tea", resume=True)) == "Done."
    assert await titles(client) == ["tea", "tea"]


@pytest.mark.parametrize("between", ["refused", "confirmed", "declined"])
async def test_a_killed_answer_stays_missing_until_it_is_stored(
    between: str, client: httpx.AsyncClient, server: Postgres, upstream: OpenAIServer, user: UUID
) -> None:
    old = await add(client, "old", "older")
    upstream.script(Reply(calls=(("delete_todos", {"ids": old}),)))
    [question] = named(await ask(client, "delete both"), "confirmation")
    tea = Reply(calls=(("add_todo", {"title": "tea"}),))
    upstream.script(tea, DONE)
    await ask(client, "add tea")
    server.execute(f"INSERT INTO assistant_leases VALUES ('{user}', gen_random_uuid(), now())")
    if between == "refused":
        upstream.brain = lambda _: Reply(status=503, body="overloaded")
        answer = await client.post("/assistant", json={"message": "add tea", "resume": True})
        assert answer.json()["code"] == "assistant-unavailable"
    else:
        upstream.script(DONE)
        await confirm(client, question["id"], approve=between == "confirmed")
    upstream.script(tea, DONE)
    assert text(await ask(client, "add tea", resume=True)) == "Done."
    assert (await titles(client)).count("tea") == 2
    # Now it is stored: it is shown again, and nothing is done.
    assert text(await ask(client, "add tea", resume=True)) == "Done."
    assert (await titles(client)).count("tea") == 2


async def test_a_question_that_nothing_was_stored_of_is_asked_anew(
    client: httpx.AsyncClient, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tea = Reply(calls=(("add_todo", {"title": "tea"}),))
    upstream.script(tea, DONE, Reply(hang="headers"))
    await ask(client, "add tea")
    monkeypatch.setattr(stream, "FIRST_SECONDS", 0.1)
    async with asking(client, "add tea"):
        await eventually(lambda: len(upstream.received) == 3)
    await eventually(upstream.received[2].left.is_set)
    upstream.script(tea, DONE)
    assert text(await ask(client, "add tea", resume=True)) == "Done."
    assert await titles(client) == ["tea", "tea"]


async def test_who_lost_the_lease_changes_and_stores_nothing_more(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    hold = threading.Event()
    replies = [
        Reply(text=("I add it.",), calls=(("add_todo", {"title": "late"}),)),
        DONE,
    ]

    def held(_: object) -> Reply:
        hold.wait()
        return replies.pop(0)

    upstream.brain = held
    request = asyncio.create_task(ask(client, "add late"))
    await eventually(lambda: len(upstream.received) == 1)
    assert (await client.delete("/assistant")).status_code == 204
    hold.set()
    events = await request
    assert [name for name, _ in events] == ["text", "error"]
    assert events[-1][1]["code"] == "assistant-interrupted"
    assert await titles(client) == []
    assert await history(client) == []


async def test_an_outage_of_the_database_is_told(
    upstream: OpenAIServer, new_server: Callable[[], Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "WAIT_SECONDS", 0.5)  # four times: the work, storing it, lease, again
    own = new_server()
    own.start()
    migrate.run(own.url())
    async with (
        serving(own.url(), upstream.url) as application,
        application.client(new_user(own)) as client,
    ):
        await ask(client, "hello")

        def outage(_: object) -> Reply:
            own.stop()
            return Reply(text=("I add it.",), calls=(("add_todo", {"title": "tea"}),))

        upstream.brain = outage
        events = await ask(client, "add tea")
        assert [name for name, _ in events] == ["text", "error"]
        problem = named(events, "error")[0]
        assert (problem["code"], problem["retry_after"]) == ("database-unavailable", 2)
        answer = await client.post("/assistant", json={"message": "hello"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")


async def test_what_nobody_expected_ends_the_stream_properly(
    client: httpx.AsyncClient, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inner secrets")

    monkeypatch.setattr("app.assistant.tools.service.create_todo", broken)
    upstream.script(Reply(text=("I add it.",), calls=(("add_todo", {"title": "tea"}),)))
    events = await ask(client, "add tea")
    assert [name for name, _ in events] == ["text", "error"]
    assert events[-1][1]["code"] == "internal-error"
    assert "inner" not in str(events)


async def test_the_end_of_a_replica_stores_what_was_done(
    server: Postgres, upstream: OpenAIServer, user: UUID
) -> None:
    upstream.script(Reply(calls=(("add_todo", {"title": "tea"}),)), Reply(hang="headers"))
    async with serving(server.url(), upstream.url) as replica:
        client = replica.client(user)
        request = asyncio.create_task(ask(client, "add tea"))
        await eventually(lambda: len(upstream.received) == 2)
        with takes_at_most(2):
            await replica.app.state.assistant.close()
        events = await request
        assert [name for name, _ in events] == ["tool", "error"]
        assert events[-1][1]["code"] == "assistant-unavailable"
        await client.aclose()
    upstream.script(DONE)
    async with serving(server.url(), upstream.url) as replica, replica.client(user) as client:
        assert (await history(client))[0] == ("user", "add tea")
        await ask(client, "hello")
