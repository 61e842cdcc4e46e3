"""Requests to the assistant: its changes to todos, and the conversation that it remembers."""

import asyncio
import json
from uuid import UUID

import httpx
import pytest

from tests.assistant.support import (
    KEY,
    Application,
    add,
    ask,
    confirm,
    history,
    named,
    new_user,
    serving,
    text,
    titles,
)
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

DONE = Reply(text=("Done", "."))


async def test_an_answer_comes_as_text_and_is_remembered(client: httpx.AsyncClient) -> None:
    events = await ask(client, "  hello\nthere  ")
    said = "You said: hello\nthere. I only help with your todo list."
    assert text(events) == said
    assert len(named(events, "text")) > 5
    assert [name for name, _ in events if name != "text"] == ["done"]
    state = (await client.get("/assistant")).json()
    assert (state["available"], state["model"]) == (True, "scripted")
    question, answer = state["messages"]
    assert (question["role"], question["text"]) == ("user", "hello\nthere")
    assert (answer["role"], answer["text"], answer["touched"]) == ("assistant", said, [])
    assert answer["id"] == named(events, "done")[0]["message_id"]
    assert question["created_at"] < answer["created_at"]


async def test_upstream_gets_key_model_limits_tools_and_rules(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(DONE)
    await ask(client, "hello")
    received = upstream.received[0]
    assert received.authorization == f"Bearer {KEY}"
    assert received.body["model"] == "scripted"
    assert received.body["max_completion_tokens"] == 4096
    assert [tool["function"]["name"] for tool in received.body["tools"]] == [
        "list_todos", "add_todo", "update_todo", "complete_todo", "delete_todos",
    ]  # fmt: skip
    system, question = received.messages
    assert system["role"] == "system"
    assert "data" in system["content"]
    assert question == {"role": "user", "content": "hello"}


async def test_tools_work_on_the_users_list(client: httpx.AsyncClient) -> None:
    events = await ask(client, "add milk and bread")
    todos = (await client.get("/todos")).json()
    assert [todo["title"] for todo in todos] == ["milk", "bread"]
    assert named(events, "tool") == [
        {"name": "add_todo", "touched": [todo["id"]]} for todo in todos
    ]
    assert text(events) == "Added “milk” and “bread”."

    events = await ask(client, "complete milk")
    assert named(events, "tool") == [
        {"name": "list_todos", "touched": []},
        {"name": "complete_todo", "touched": [todos[0]["id"]]},
    ]
    assert (await client.get(f"/todos/{todos[0]['id']}")).json()["completed"] is True

    await ask(client, "rename bread to rye bread")
    assert await titles(client) == ["milk", "rye bread"]

    events = await ask(client, "list")
    assert text(events) == "On your list:\n- milk\n- rye bread"

    events = await ask(client, "delete rye bread")
    assert named(events, "tool")[-1] == {"name": "delete_todos", "touched": [todos[1]["id"]]}
    assert await titles(client) == ["milk"]

    touched = [
        message["touched"] for message in (await client.get("/assistant")).json()["messages"]
    ]
    assert touched[1::2] == [
        [todos[0]["id"], todos[1]["id"]], [todos[0]["id"]], [todos[1]["id"]], [], [todos[1]["id"]],
    ]  # fmt: skip


async def test_arguments_in_pieces_and_text_around_calls(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(
        Reply(
            text=("I add ", "them."),
            calls=(("add_todo", {"title": "🥛 „Milch“"}), ("add_todo", '{"title":"b"}')),
            split=1,
        ),
        DONE,
    )
    events = await ask(client, "both")
    assert await titles(client) == ["🥛 „Milch“", "b"]
    assert text(events) == "I add them.\n\nDone."
    assert await history(client) == [("user", "both"), ("assistant", "I add them.\n\nDone.")]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("add_todo", {"title": " \t"}, "title: String should have at least 1 character"),
        ("add_todo", {"title": "x" * 501}, "title: String should have at most 500 characters"),
        ("add_todo", {"title": "a\0b"}, "title: Text cannot contain NUL"),
        ("add_todo", '{"title": "\\ud800"}', "Invalid JSON"),
        ("add_todo", {"title": 5}, "title: Input should be a valid string"),
        ("add_todo", {}, "title: Field required"),
        ("add_todo", '{"title": "cut', "Invalid JSON"),
        ("add_todo", "null", "Input should be an object"),
        ("add_todo", "", "title: Field required"),
        ("update_todo", {"id": "4"}, "id: Input should be a valid UUID"),
        ("update_todo", {"id": "00000000-0000-4000-8000-00000000000f"}, "give title, completed"),
        (
            "complete_todo",
            {"id": "00000000-0000-4000-8000-00000000000f"},
            "There is no todo 00000000-0000-4000-8000-00000000000f.",
        ),
        (
            "delete_todos",
            {"ids": ["00000000-0000-4000-8000-00000000000f"]},
            "There is no todo 00000000-0000-4000-8000-00000000000f.",
        ),
        ("delete_todos", {"ids": []}, "ids: List should have at least 1 item"),
        ("list_todos", {"after": "nonsense"}, "after: String should match pattern"),
        ("drop_table", {"name": "todos"}, "There is no such tool. There are: list_todos,"),
        ("", {}, "There is no such tool."),
    ],
)
async def test_what_the_model_does_wrong_it_is_told(
    client: httpx.AsyncClient, upstream: OpenAIServer, name: str, arguments: object, error: str
) -> None:
    upstream.script(Reply(calls=((name, arguments),)), DONE)
    events = await ask(client, "try")
    assert text(events) == "Done."
    result = upstream.received[1].messages[-1]
    assert result["role"] == "tool"
    assert error in result["content"]
    assert named(events, "tool") == []
    assert await titles(client) == []


async def test_long_lists_come_in_pages_and_searches_look_everywhere(
    client: httpx.AsyncClient, upstream: OpenAIServer, server: Postgres, user: UUID
) -> None:
    server.execute(
        "INSERT INTO todos (user_id, title, position, completed)"
        f" SELECT '{user}', 'todo ' || n || repeat('x', 400), n, n % 100 = 0"
        " FROM generate_series(1, 450) n"
    )
    upstream.script(
        Reply(calls=(("list_todos", {"limit": 100}), ("list_todos", {"completed": True}))),
        Reply(calls=(("list_todos", {"search": "TODO 44", "limit": 7}),)),
        DONE,
    )
    await ask(client, "list")
    page, completed = (json.loads(m["content"]) for m in upstream.received[1].messages[-2:])
    assert 20 < len(page["todos"]) < 40  # by size
    assert len(upstream.received[1].messages[-2]["content"]) < 16_000
    assert page["next"]
    assert [todo["completed"] for todo in completed["todos"]] == [True] * 4
    assert "next" not in completed
    found = json.loads(upstream.received[2].messages[-1]["content"])
    assert [todo["title"].rstrip("x") for todo in found["todos"]] == [
        "todo 44",
        *(f"todo 44{n}" for n in range(6)),
    ]
    upstream.script(Reply(calls=(("list_todos", {"after": page["next"], "limit": 1}),)), DONE)
    await ask(client, "more")
    following = json.loads(upstream.received[1].messages[-1]["content"])
    assert following["todos"][0]["title"].rstrip("x") == f"todo {len(page['todos']) + 1}"


async def test_the_model_is_reminded_of_what_was_said(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(Reply(calls=(("add_todo", {"title": "tea"}),)), DONE, DONE)
    await ask(client, "add tea")
    await ask(client, "and now?")
    roles = [message["role"] for message in upstream.received[2].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert '"tea"' in upstream.received[2].messages[3]["content"]


async def test_what_is_sent_of_the_history_is_bounded(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    upstream.script(*[Reply(text=("y" * 1500,))] * 12)
    for number in range(12):
        await ask(client, f"{number} " + "x" * 1900)
    sent = upstream.received[-1].messages
    assert sum(len(message["content"]) for message in sent[1:-1]) <= 16_000
    assert sent[1]["role"] == "user"
    assert sent[-2]["content"] == "y" * 1500
    assert len(await history(client)) == 24


async def test_the_history_is_bounded_and_can_be_forgotten(
    client: httpx.AsyncClient, server: Postgres, user: UUID
) -> None:
    server.execute(
        "INSERT INTO assistant_messages (id, user_id, role, text)"
        f" SELECT gen_random_uuid(), '{user}', 'user', n::text FROM generate_series(1, 300) n"
    )
    await ask(client, "hello")
    messages = await history(client)
    assert len(messages) == 100
    assert messages[-2] == ("user", "hello")
    assert messages[0] == ("user", "203")
    assert (await client.delete("/assistant")).status_code == 204
    assert await history(client) == []


@pytest.mark.parametrize("message", ["", "  ", "x" * 2001, "a\0b", None, 5])
async def test_a_message_that_cannot_be(client: httpx.AsyncClient, message: object) -> None:
    answer = await client.post("/assistant", json={"message": message})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation")


async def test_without_a_key_the_assistant_is_off(server: Postgres, user: UUID) -> None:
    async with (
        serving(server.url(), "http://127.0.0.1:1/v1", openai_api_key="") as application,
        application.client(user) as client,
    ):
        state = (await client.get("/assistant")).json()
        assert state == {
            "available": False, "model": None, "messages": [], "confirmation": None,
        }  # fmt: skip
        for path, body in (
            ("/assistant", {"message": "hello"}),
            (f"/assistant/confirmations/{user}", {"approve": True}),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "assistant-not-configured"
            assert "retry-after" not in answer.headers


async def test_nobody_asks_without_signing_in(application: Application) -> None:
    async with httpx.AsyncClient(base_url=f"{application.url}/api/v1") as anonymous:
        for method, path in (
            ("GET", "/assistant"),
            ("DELETE", "/assistant"),
            ("POST", "/assistant"),
            ("POST", "/assistant/confirmations/00000000-0000-4000-8000-00000000000f"),
        ):
            assert (await anonymous.request(method, path)).status_code == 401


async def test_tokens_of_a_day_are_limited_for_each_user(
    server: Postgres, upstream: OpenAIServer
) -> None:
    async with serving(server.url(), upstream.url, assistant_tokens_per_day=1000) as application:
        first, second = new_user(server), new_user(server)
        async with application.client(first) as client, application.client(second) as other:
            for _ in range(2):
                upstream.script(Reply(text=("Hello.",), tokens=600))
                assert text(await ask(client, "hello")) == "Hello."
            answer = await client.post("/assistant", json={"message": "hello"})
            assert (answer.status_code, answer.json()["code"]) == (429, "assistant-tokens-used-up")
            # 201 tokens too many, at a thousand a day.
            assert 16_000 < int(answer.headers["retry-after"]) < 18_000
            upstream.script(Reply(text=("Hello.",), tokens=600))
            assert text(await ask(other, "hello")) == "Hello."


async def test_a_question_can_be_declined_with_the_tokens_of_the_day_used_up(
    server: Postgres, upstream: OpenAIServer
) -> None:
    async with (
        serving(server.url(), upstream.url, assistant_tokens_per_day=1000) as application,
        application.client(new_user(server)) as client,
    ):
        todos = await add(client, "milk", "bread")
        upstream.script(Reply(calls=(("delete_todos", {"ids": todos}),), tokens=2000))
        question = named(await ask(client, "delete all"), "confirmation")[0]["id"]
        path = f"/assistant/confirmations/{question}"
        assert (await client.post(path, json={"approve": True})).status_code == 429
        upstream.script(Reply(text=("Kept.",)))
        assert text(await confirm(client, question, approve=False)) == "Kept."
        assert await titles(client) == ["milk", "bread"]


async def test_a_client_that_goes_pays_for_what_was_read(
    server: Postgres, upstream: OpenAIServer
) -> None:
    async with (
        serving(server.url(), upstream.url, assistant_tokens_per_day=100) as application,
        application.client(new_user(server)) as client,
    ):
        upstream.script(Reply(text=("tick ",) * 1000, pause=0.05))
        async with client.stream("POST", "/assistant", json={"message": "count"}) as stream:
            assert await anext(stream.aiter_lines()) == "event: text"
        await eventually(upstream.received[-1].left.is_set)
        status = 409  # until its work is over
        while status == 409:
            await asyncio.sleep(0.05)
            status = (await client.post("/assistant", json={"message": "hello"})).status_code
        assert status == 429
