"""Failures of the provider: each kind has its own error, and no change is lost."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.assistant.failures import rate_limited, retry_after, tokens_used_up
from app.assistant.tools import Toolbox
from tests.assistant.support import ask, history, named, serving, text, titles
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres
from tests.waiting import eventually, takes_at_most

pytestmark = pytest.mark.anyio

ADD_TEA = Reply(calls=(("add_todo", {"title": "tea"}),))


def chunk(**changes: Any) -> str:
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": []} | changes)


def refusal(status: int, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": "no: not-a-secret-key-of-the-tests", "code": "c"}})
    return Reply(status=status, body=body, headers=headers)


FAILURES = [
    (refusal(401), "assistant-key-refused"),
    (refusal(403), "assistant-key-refused"),
    (refusal(429), "assistant-rate-limited"),
    (refusal(404), "assistant-unavailable"),
    (refusal(400), "assistant-unavailable"),
    (refusal(500), "assistant-unavailable"),
    (refusal(503), "assistant-unavailable"),
    (Reply(body="<html>a portal</html>", headers={"Content-Type": "text/html"}),
     "assistant-unavailable"),
    (Reply(raw=("this is no JSON",)), "assistant-unavailable"),
    (Reply(raw=("5",), finish=""), "assistant-unavailable"),
    (Reply(raw=(chunk(choices=[{"delta": {"tool_calls": [{"index": 0}]}}]),)),
     "assistant-unavailable"),
    (Reply(raw=(json.dumps({"error": {"message": "overloaded"}}),)), "assistant-unavailable"),
    (Reply(cut=True), "assistant-unavailable"),
    (Reply(finish=""), "assistant-unavailable"),
    (Reply(hang="headers"), "assistant-unavailable"),
    (Reply(finish="length"), "assistant-limit-reached"),
    (Reply(calls=(("add_todo", {"title": "x"}),) * 33), "assistant-limit-reached"),
]  # fmt: skip


@pytest.fixture
async def client(
    request: pytest.FixtureRequest, server: Postgres, upstream: OpenAIServer, user: UUID
) -> Any:
    limits: dict[str, float] = {"assistant_max_steps": 3}
    case = getattr(request.node, "callspec", None)
    if case is not None and case.params.get("reply", Reply()).hang:
        limits |= {"assistant_load_seconds": 1, "assistant_silence_seconds": 1}
    async with (
        serving(server.url(), upstream.url, **limits) as application,
        application.client(user) as client,
    ):
        yield client


@pytest.mark.parametrize(("reply", "code"), FAILURES)
async def test_before_anything_was_said_it_is_an_ordinary_answer(
    client: httpx.AsyncClient, upstream: OpenAIServer, reply: Reply, code: str
) -> None:
    upstream.script(reply)
    answer = await client.post("/assistant", json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "not-a-secret" not in answer.text
    assert ("retry-after" in answer.headers) is (code == "assistant-rate-limited")
    assert await history(client) == []
    upstream.script(Reply(text=("Here.",)))
    assert text(await ask(client, "again")) == "Here."


@pytest.mark.parametrize(("reply", "code"), FAILURES)
async def test_afterwards_it_is_an_event_and_what_was_done_stays_done(
    client: httpx.AsyncClient, upstream: OpenAIServer, reply: Reply, code: str
) -> None:
    upstream.script(ADD_TEA, reply)
    events = await ask(client, "add tea")
    assert [name for name, _ in events] == ["tool", "error"]
    problem = named(events, "error")[0]
    assert (problem["status"], problem["code"]) == (503, code)
    assert problem["instance"] == "/api/v1/assistant"
    assert problem["request_id"]
    assert ("retry_after" in problem) is (code == "assistant-rate-limited")
    assert (await titles(client))[0] == "tea"
    messages = (await client.get("/assistant")).json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["touched"][0] == named(events, "tool")[0]["touched"][0]
    # The next question's history is complete: upstream refuses calls without results.
    upstream.script(Reply(text=("Yes.",)))
    assert text(await ask(client, "is it there?")) == "Yes."
    sent = upstream.received[0].messages
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool", "user"]


@pytest.mark.parametrize("reply", [Reply(text=("I was ", "going"), cut=True),
                                   Reply(text=("I was ", "going"), hang="stream")])  # fmt: skip
async def test_half_an_answer_is_kept(
    client: httpx.AsyncClient, upstream: OpenAIServer, reply: Reply
) -> None:
    upstream.script(reply)
    events = await ask(client, "hello")
    assert text(events) == "I was going"
    assert events[-1][0] == "error"
    assert await history(client) == [("user", "hello"), ("assistant", "I was going")]
    upstream.script(Reply(text=("Yes.",)))
    await ask(client, "go on")
    assert upstream.received[0].messages[2] == {"role": "assistant", "content": "I was going"}


async def test_going_on_after_a_cut_does_nothing_twice(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(ADD_TEA, Reply(text=("I added ",), cut=True))
    assert (await ask(client, "add tea, twice"))[-1][0] == "error"
    # A model that starts again, although the prompt asks it to continue.
    upstream.script(
        ADD_TEA, Reply(text=("Half ",), cut=True), ADD_TEA, ADD_TEA, Reply(text=("Yes.",))
    )
    assert (await ask(client, "add tea, twice", resume=True))[-1][0] == "error"
    assert await titles(client) == ["tea"]
    sent = upstream.received[0].messages[1:]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert "Go on where it ended" in sent[-1]["content"]
    # It is added again only after what was done is matched.
    assert (await ask(client, "add tea, twice", resume=True))[-1][0] == "done"
    assert await titles(client) == ["tea", "tea"]
    assert [role for role, _ in await history(client)] == ["user", *["assistant"] * 3]


async def test_an_answer_that_is_complete_is_not_made_again(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    """Its end was lost on the way to the client."""
    upstream.script(ADD_TEA, Reply(text=("Added.",)), ADD_TEA)
    events = await ask(client, "add tea")
    again = await ask(client, "add tea", resume=True)
    assert again == [("text", {"delta": "Added."}), events[-1]]
    assert await titles(client) == ["tea"]
    assert len(upstream.received) == 2


async def test_a_question_that_waits_is_asked_again(client: httpx.AsyncClient) -> None:
    for title in ("milk", "bread"):
        await client.post("/todos", json={"title": title})
    events = await ask(client, "delete all")
    assert await ask(client, "delete all", resume=True) == events[-2:]


async def test_after_a_cut_every_deletion_is_asked_about(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todo = (await client.post("/todos", json={"title": "milk"})).json()["id"]
    deletion = Reply(calls=(("delete_todos", {"ids": [todo]}),))
    upstream.script(Reply(text=("I was ",), cut=True), deletion)
    await ask(client, "delete milk")
    events = await ask(client, "delete milk", resume=True)
    assert named(events, "confirmation")[0]["question"] == "Delete this todo?"
    assert await titles(client) == ["milk"]


async def test_an_answer_whose_change_failed_is_not_complete(
    client: httpx.AsyncClient, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = (await client.post("/todos", json={"title": "milk"})).json()["id"]
    deletion = Reply(calls=(("delete_todos", {"ids": [todo]}),))
    upstream.script(deletion, Reply(text=("Deleted.",)), Reply(text=("It failed.",)))

    async def failing(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Toolbox, "delete", failing)
        assert (await ask(client, "delete milk"))[-1][0] == "error"
    assert text(await ask(client, "delete milk", resume=True)) == "It failed."
    assert upstream.received[2].messages[-2]["content"] == "Deleted."


async def test_what_was_never_stored_is_asked_anew(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(Reply(text=("Hi.",)), ADD_TEA, Reply(text=("Done.",)))
    await ask(client, "hello")
    await ask(client, "add tea", resume=True)
    assert await titles(client) == ["tea"]
    assert [text for role, text in await history(client) if role == "user"] == ["hello", "add tea"]


async def test_a_model_may_say_nothing_if_it_did_something(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(Reply(), ADD_TEA, Reply(), Reply(text=("Yes.",)))
    answer = await client.post("/assistant", json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "assistant-unavailable")
    events = await ask(client, "add tea")
    assert [name for name, _ in events] == ["tool", "done"]
    assert await history(client) == [("user", "add tea"), ("assistant", "Changed 1 todo.")]
    await ask(client, "is it there?")
    assert [m["content"] for m in upstream.received[-1].messages if m["role"] != "tool"][1:] == [
        "add tea", None, "is it there?",
    ]  # fmt: skip


async def test_an_address_where_nobody_listens(server: Postgres, user: UUID) -> None:
    async with (
        serving(server.url(), "http://127.0.0.1:1/v1") as application,
        application.client(user) as client,
    ):
        answer = await client.post("/assistant", json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "assistant-unavailable")


async def test_a_model_without_end_is_stopped(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.brain = lambda _: ADD_TEA
    events = await ask(client, "add tea")
    assert [name for name, _ in events] == ["tool", "tool", "tool", "error"]
    assert events[-1][1]["code"] == "assistant-limit-reached"
    assert await titles(client) == ["tea"] * 3


@pytest.mark.parametrize("tokens", [600, None])
async def test_tokens_are_limited_also_where_upstream_does_not_count_them(
    server: Postgres, upstream: OpenAIServer, user: UUID, tokens: int | None
) -> None:
    limits = {"assistant_token_budget": 1000, "assistant_max_steps": 50}
    async with (
        serving(server.url(), upstream.url, **limits) as application,
        application.client(user) as client,
    ):
        upstream.brain = lambda _: Reply(calls=ADD_TEA.calls, tokens=tokens)
        events = await ask(client, "add tea")
        assert events[-1][1]["code"] == "assistant-limit-reached"
        assert len(await titles(client)) == len(named(events, "tool")) <= 3


async def test_an_answer_is_limited_also_where_upstream_does_not_stop(
    server: Postgres, upstream: OpenAIServer, user: UUID
) -> None:
    async with (
        serving(server.url(), upstream.url, assistant_max_tokens=16) as application,
        application.client(user) as client,
    ):
        upstream.script(Reply(text=("0123456789",) * 100))
        events = await ask(client, "count")
        assert events[-1][1]["code"] == "assistant-limit-reached"
        assert len(text(events)) <= 16 * 8


async def test_time_is_limited(server: Postgres, upstream: OpenAIServer, user: UUID) -> None:
    async with (
        serving(server.url(), upstream.url, assistant_max_seconds=2) as application,
        application.client(user) as client,
    ):
        upstream.script(Reply(text=("tick ",) * 1000, pause=0.05))
        with takes_at_most(5):
            events = await ask(client, "count")
        assert events[-1][1]["code"] == "assistant-limit-reached"
        assert text(events).startswith("tick ")
        await eventually(upstream.received[0].left.is_set)


async def test_what_no_text_can_hold_is_replaced(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(Reply(text=("a\0b\ud800c\n",)))
    assert text(await ask(client, "hello")) == "ab?c\n"
    assert (await history(client))[1] == ("assistant", "ab?c")


async def test_chunks_as_other_servers_send_them(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    call = {"function": {"name": "add_todo", "arguments": '{"title": "tea"}'}}
    whole = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "stop"}
    refused = {"index": 0, "delta": {"content": None, "refusal": "I may not."}}
    upstream.script(
        Reply(raw=(chunk(choices=[whole]),), tokens=None, finish=""),
        Reply(raw=(chunk(choices=[{"delta": None}]), chunk(choices=[refused]))),
    )
    assert text(await ask(client, "add tea")) == "I may not."
    assert await titles(client) == ["tea"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(1, "in 1 s."), (119, "in 119 s."), (121, "in 3 minutes.")]
)
def test_a_long_wait_is_told_in_minutes(seconds: int, told: str) -> None:
    for problem in (rate_limited(seconds), tokens_used_up(seconds)):
        assert problem.detail.endswith(f"ry again {told}")
        assert problem.headers == {"Retry-After": str(seconds)}


def test_how_long_to_wait() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "0.2"}) == 1
    assert 80 <= retry_after({"retry-after": later}) <= 90
    assert retry_after({"retry-after": "99999999"}) == 3600
    for nonsense in ({}, {"retry-after": "soon"}, {"retry-after": "inf"}, {"retry-after": "nan"}):
        assert retry_after(nonsense) == 20
