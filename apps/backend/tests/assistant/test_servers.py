"""Differences between OpenAI-compatible servers. Each tested one exists in a real server."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.assistant import upstream as upstream_module
from tests.assistant.support import ask, named, serving, text, titles
from tests.assistant.test_upstream import ADD_TEA, chunk
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

DONE = Reply(text=("Done.",))


@pytest.fixture
async def client(
    server: Postgres, upstream: OpenAIServer, user: UUID
) -> AsyncIterator[httpx.AsyncClient]:
    limits = {"assistant_load_seconds": 30, "assistant_silence_seconds": 1.5}
    async with (
        serving(server.url(), upstream.url, **limits) as application,
        application.client(user) as client,
    ):
        yield client


def calls(*parts: dict[str, Any]) -> Reply:
    """Calls of add_todo in one answer, each part as the server sends it."""
    chunks = [chunk(choices=[{"delta": {"tool_calls": [part]}}]) for part in parts]
    end = chunk(choices=[{"delta": {}, "finish_reason": "tool_calls"}])
    return Reply(raw=(*chunks, end), finish="")


def part(arguments: str, name: str | None = "add_todo", **others: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}} | others


@pytest.mark.parametrize(
    "parts",
    [
        [
            part('{"title": "tea"}', index=0, id="a"),
            part('{"title": "milk"}', index=0, id="b"),
        ],
        [
            part('{"title": "tea"}', index=0, id=""),
            part('{"title": "milk"}', index=0, id=""),
        ],
        [
            part("", index=0, id="a"),
            part('{"title": "tea"}', None, index=0),
            part("", index=0, id="b"),
            part('{"title": ', None, index=0),
            part('"milk"}', None, index=0),
        ],
        [
            part('{"title": ', index=0, id="a"),
            part('"tea"}', index=0, id="a"),
            part("", index=0, id="a"),
            part('{"title": "milk"}', index=1, id="a"),
        ],
        [part('{"title": "tea"}'), part('{"title": '), part('"milk"}', None)],
        [
            part('{"title": "tea"}', index=0, id="call_1"),
            part('{"title": "milk"}', index=1, id="call_1"),
        ],
        [
            part('{"title": ', index=0),
            part('"tea"}', None, index=0),
            part("", index=0),
            part('{"title": "milk"}', index=1),
        ],
    ],
    ids=[
        "with ids",
        "without ids",
        "in pieces",
        "repeating id and name",
        "without index",
        "with one id",
        "repeating name at the end",
    ],
)
async def test_parallel_calls_may_share_an_index(
    client: httpx.AsyncClient, upstream: OpenAIServer, parts: list[dict[str, Any]]
) -> None:
    upstream.script(calls(*parts), DONE)
    await ask(client, "add tea and milk")
    assert await titles(client) == ["tea", "milk"]
    said, *results = upstream.received[1].messages[-3:]
    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == 2
    assert [result["tool_call_id"] for result in results] == ids


async def test_another_name_begins_another_call(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(calls(part("", "list_todos", index=0), part('{"title": "tea"}', index=0)), DONE)
    events = await ask(client, "add tea")
    assert [tool["name"] for tool in named(events, "tool")] == ["list_todos", "add_todo"]


@pytest.mark.parametrize("status", [200, 404])
async def test_a_base_url_without_its_path_is_told_with_what_to_write(
    server: Postgres, upstream: OpenAIServer, user: UUID, status: int
) -> None:
    error = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}
    upstream.elsewhere = Reply(status=status, body=json.dumps(error))
    async with (
        serving(server.url(), upstream.url.removesuffix("/v1")) as application,
        application.client(user) as client,
    ):
        answer = await client.post("/assistant", json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "assistant-unavailable")
    assert answer.json()["detail"].endswith(". Add /v1 at the end of OPENAI_BASE_URL.")
    assert ("OPENAI_MODEL" in answer.json()["detail"]) is (status == 404)


def refusing(*names: str, status: int, answer: Reply) -> Callable[[dict[str, Any]], Reply]:
    """A server that refuses what it does not know, one at a time, as FastAPI and OpenAI do."""

    def brain(body: dict[str, Any]) -> Reply:
        for name in names:
            if name in body:
                error = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs"}
                return Reply(status=status, body=json.dumps({"detail": [error]}))
        return answer

    return brain


@pytest.mark.parametrize("status", [400, 422])
async def test_what_a_server_refuses_is_left_out_from_then_on(
    client: httpx.AsyncClient, upstream: OpenAIServer, status: int
) -> None:
    names = "max_completion_tokens", "stream_options"
    upstream.received.clear()
    upstream.brain = refusing(*names, status=status, answer=DONE)
    assert text(await ask(client, "hello")) == "Done."
    assert [sum(name in got.body for name in names) for got in upstream.received] == [2, 1, 0]
    upstream.received.clear()
    assert text(await ask(client, "again")) == "Done."
    assert len(upstream.received) == 1


async def test_a_request_that_is_refused_for_another_reason_is_not_repeated_without_end(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    refusal = "max_completion_tokens, stream_options and content are fine; the model is not"
    upstream.received.clear()
    upstream.brain = lambda _: Reply(status=400, body=json.dumps({"error": {"message": refusal}}))
    answer = await client.post("/assistant", json={"message": "hello"})
    assert answer.json()["code"] == "assistant-unavailable"
    assert len(upstream.received) == 2
    upstream.script(DONE)
    await ask(client, "again")
    assert "max_completion_tokens" in upstream.received[0].body


@pytest.mark.parametrize(
    ("refusal", "null"),
    [
        ('{"detail": [{"loc": ["body", "messages", 2, "content"], "input": null}]}', True),
        ('{"message": "Invalid value for \\"content\\": expected a string, got null."}', True),
        ("'content' must not be None", True),
        ('{"error": "blocked by our content policy", "param": null}', False),
        ('{"error": "wrong Content-Type", "content-type": null}', False),
        ('{"error": {"content": "is not allowed"}}', False),
    ],
)
def test_a_refusal_of_null_content_is_told_from_others(refusal: str, null: bool) -> None:
    assert bool(upstream_module.OPTIONAL["content"].search(refusal)) is null


async def test_null_content_beside_calls_becomes_an_empty_text_where_it_is_refused(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    def brain(body: dict[str, Any]) -> Reply:
        messages = body["messages"]
        if any(message["content"] is None for message in messages):
            return Reply(status=422, body='{"detail": "messages.2.content: not a valid string"}')
        return DONE if messages[-1]["role"] == "tool" else ADD_TEA

    upstream.received.clear()
    upstream.brain = brain
    assert text(await ask(client, "add tea")) == "Done."
    assert [message["content"] for message in upstream.received[-1].messages[2:3]] == [""]
    assert len(upstream.received) == 3
    await ask(client, "add tea")
    assert len(upstream.received) == 5


async def test_chunks_without_an_answer_in_them_are_passed_over(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    empty = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": None}])
    others = "{}", chunk(), chunk(choices=None, usage=usage), chunk(choices=None, usage=None)
    upstream.script(Reply(raw=(empty, *others), text=("Here.",)))
    assert text(await ask(client, "hello")) == "Here."


@pytest.mark.parametrize("waits", ["silent", "refuses"])
async def test_a_model_that_loads_is_waited_for(
    client: httpx.AsyncClient,
    upstream: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    waits: str,
) -> None:
    """Longer than an answer may be silent once it has begun."""
    monkeypatch.setattr(upstream_module, "LOADING_PAUSE_SECONDS", 0.3)
    loading = Reply(status=503, body='{"error": {"code": 503, "message": "Loading model"}}')
    if waits == "silent":
        upstream.script(Reply(text=("Here.",), load=2))
    else:
        upstream.script(loading, loading, Reply(text=("Here.",)))
    events = await ask(client, "hello")
    assert (text(events), named(events, "error")) == ("Here.", [])
