"""A reloaded page shows the open question."""

from typing import Any

import httpx
import pytest

from tests.assistant.support import Application, add, ask, confirm, named, new_user
from tests.openai_server import OpenAIServer, Reply, by_keywords
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


async def waiting(client: httpx.AsyncClient) -> dict[str, Any] | None:
    confirmation: dict[str, Any] | None = (await client.get("/assistant")).json()["confirmation"]
    return confirmation


@pytest.fixture
async def question(client: httpx.AsyncClient) -> dict[str, Any]:
    await add(client, "milk", "bread")
    return named(await ask(client, "delete all"), "confirmation")[0]


async def test_it_is_the_one_that_the_stream_told_of(
    client: httpx.AsyncClient, question: dict[str, Any]
) -> None:
    found = await waiting(client)
    assert found == question
    assert found["question"] == "Delete these 2 todos?"
    assert [todo["title"] for todo in found["todos"]] == ["milk", "bread"]
    await confirm(client, found["id"], approve=True)
    assert await waiting(client) is None


async def test_nobody_elses(
    application: Application, server: Postgres, question: dict[str, Any]
) -> None:
    async with application.client(new_user(server)) as other:
        assert await waiting(other) is None
    assert question


@pytest.mark.parametrize("approve", [True, False])
async def test_an_answer_closes_it_although_upstream_fails(
    client: httpx.AsyncClient, upstream: OpenAIServer, question: dict[str, Any], approve: bool
) -> None:
    upstream.script(Reply(status=500, body="{}"))
    await client.post(f"/assistant/confirmations/{question['id']}", json={"approve": approve})
    assert await waiting(client) is None


async def test_none_whose_time_has_run_out(
    client: httpx.AsyncClient, server: Postgres, question: dict[str, Any]
) -> None:
    server.execute(
        "UPDATE assistant_confirmations SET expires_at = now() - interval '1 second'"
        f" WHERE id = '{question['id']}'"
    )
    assert await waiting(client) is None


async def test_none_after_the_conversation_went_on(
    client: httpx.AsyncClient, upstream: OpenAIServer, question: dict[str, Any]
) -> None:
    # A request that came to nothing leaves no trace, so the question still stands at the end.
    upstream.script(Reply(status=500, body="{}"))
    assert (await client.post("/assistant", json={"message": "hello"})).status_code == 503
    assert await waiting(client) == question
    upstream.brain = by_keywords
    await ask(client, "hello")
    assert await waiting(client) is None
    again = named(await ask(client, "delete all"), "confirmation")[0]
    assert again["id"] != question["id"]
    assert await waiting(client) == again


async def test_none_after_forgetting(client: httpx.AsyncClient, question: dict[str, Any]) -> None:
    assert await waiting(client) == question
    await client.delete("/assistant")
    assert await waiting(client) is None
