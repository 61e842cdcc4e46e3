"""The assistant asks before it deletes several todos, and deletes nothing before the answer."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app.assistant import turn
from app.todos import repository
from tests.assistant.support import (
    Application,
    add,
    ask,
    confirm,
    history,
    named,
    new_user,
    text,
    titles,
)
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

DONE = Reply(text=("Done.",))


def rename(todo: str, title: str, **others: object) -> tuple[str, dict[str, object]]:
    return ("update_todo", {"id": todo, "title": title} | others)


def delete(*todos: str) -> tuple[str, dict[str, list[str]]]:
    return ("delete_todos", {"ids": list(todos)})


async def test_deleting_several_asks_first(client: httpx.AsyncClient) -> None:
    todos = await add(client, "milk", "bread")
    events = await ask(client, "delete all")
    assert [name for name, _ in events] == ["tool", "confirmation", "done"]
    question = named(events, "confirmation")[0]
    assert question["question"] == "Delete these 2 todos?"
    assert question["todos"] == [
        {"id": todos[0], "title": "milk", "new_title": None, "completed": None},
        {"id": todos[1], "title": "bread", "new_title": None, "completed": None},
    ]  # fmt: skip
    assert await titles(client) == ["milk", "bread"]
    assert (await history(client))[1] == (
        "assistant",
        "Delete these 2 todos? “milk”, “bread”",
    )

    events = await confirm(client, question["id"], approve=True)
    assert named(events, "tool") == [{"name": "delete_todos", "touched": todos}]
    assert text(events) == "Deleted “milk” and “bread”."
    assert events[-1][0] == "done"
    assert await titles(client) == []
    messages = (await client.get("/assistant")).json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "assistant"]
    assert messages[2]["touched"] == todos
    assert messages[2]["id"] == events[-1][1]["message_id"]


async def test_a_refusal_deletes_nothing(client: httpx.AsyncClient, upstream: OpenAIServer) -> None:
    await add(client, "milk", "bread")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    events = await confirm(client, question["id"], approve=False)
    assert text(events) == "Nothing was deleted."
    assert named(events, "tool") == []
    assert await titles(client) == ["milk", "bread"]
    # From now on the model knows how it ended.
    upstream.script(DONE)
    await ask(client, "and now?")
    contents = [m["content"] for m in upstream.received[0].messages if m["role"] == "tool"]
    assert contents[-1] == '{"confirmed": false, "done": 0}'


async def test_several_calls_are_one_question_and_other_work_is_done(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "a", "b", "c")
    upstream.script(
        Reply(calls=(delete(todos[0]), ("add_todo", {"title": "d"}), delete(todos[1], todos[0]))),
        DONE,
    )
    events = await ask(client, "tidy up")
    question = named(events, "confirmation")[0]
    assert [todo["title"] for todo in question["todos"]] == ["a", "b"]
    assert await titles(client) == ["a", "b", "c", "d"]
    await confirm(client, question["id"], approve=True)
    assert await titles(client) == ["c", "d"]
    results = [m["content"] for m in upstream.received[1].messages if m["role"] == "tool"]
    assert results[0] == results[2] == '{"confirmed": true, "done": 2}'


async def test_one_after_the_other_is_asked_about_before_the_first_goes(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "a", "b")
    upstream.script(
        Reply(calls=(delete(todos[0]),)),
        Reply(text=("Now the other.",), calls=(delete(todos[1]),)),
        DONE,
    )
    events = await ask(client, "delete both")
    question = named(events, "confirmation")[0]
    assert [todo["title"] for todo in question["todos"]] == ["a", "b"]
    assert await titles(client) == ["a", "b"]
    assert (await history(client))[1][1] == ("Now the other.\n\nDelete these 2 todos? “a”, “b”")
    await confirm(client, question["id"], approve=True)
    assert await titles(client) == []


async def test_a_single_one_goes_without_asking_but_only_at_the_end(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "a", "b")
    ask_for_a = Reply(calls=(delete(todos[0], todos[0]),))
    upstream.script(ask_for_a, Reply(text=("It is ",), cut=True), DONE)
    events = await ask(client, "delete a")
    assert [name for name, _ in events] == ["text", "error"]
    assert await titles(client) == ["a", "b"]
    await ask(client, "what now?")
    assert upstream.received[2].messages[3]["content"] == "Not carried out."
    upstream.script(ask_for_a, DONE)
    events = await ask(client, "delete a")
    assert [name for name, _ in events] == ["text", "tool", "done"]
    assert named(events, "tool") == [{"name": "delete_todos", "touched": [todos[0]]}]
    assert await titles(client) == ["b"]


async def test_after_a_question_every_deletion_is_asked_about(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    """A model that is refused may not delete one by one what it may not delete at once."""
    todos = await add(client, "a", "b", "c")
    upstream.script(Reply(calls=(delete(*todos),)), Reply(calls=(delete(todos[0]),)), DONE)
    question = named(await ask(client, "delete all"), "confirmation")[0]
    events = await confirm(client, question["id"], approve=False)
    second = named(events, "confirmation")[0]
    assert second["question"] == "Delete this todo?"
    assert await titles(client) == ["a", "b", "c"]
    await confirm(client, second["id"], approve=True)
    assert await titles(client) == ["b", "c"]


async def test_changing_several_titles_asks_first(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "milk", "bread")
    upstream.script(
        Reply(calls=(rename(todos[0], "oat milk", completed=True),)),
        Reply(calls=(rename(todos[1], "rye bread"),)),
        DONE,
    )
    events = await ask(client, "rename both")
    assert [name for name, _ in events] == ["confirmation", "done"]
    question = named(events, "confirmation")[0]
    assert question["question"] == "Rename these 2 todos?"
    assert [tuple(todo.values())[1:] for todo in question["todos"]] == [
        ("milk", "oat milk", True), ("bread", "rye bread", None),
    ]  # fmt: skip
    assert (await client.get("/assistant")).json()["confirmation"] == question
    assert await titles(client) == ["milk", "bread"]
    assert (await history(client))[1][1] == (
        "Rename these 2 todos? “milk” → “oat milk”, “bread” → “rye bread”"
    )

    events = await confirm(client, question["id"], approve=True)
    assert named(events, "tool") == [{"name": "update_todo", "touched": todos}]
    listed = (await client.get("/todos")).json()
    assert [(todo["title"], todo["completed"]) for todo in listed] == [
        ("oat milk", True), ("rye bread", False),
    ]  # fmt: skip


async def test_a_title_that_stays_is_no_new_title(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "milk", "bread")
    calls = (rename(todos[0], "milk", completed=True), rename(todos[1], "bread", completed=True),
             rename(todos[0], "milk"))  # fmt: skip
    upstream.script(Reply(calls=calls), DONE)
    events = await ask(client, "mark both as done")
    assert named(events, "confirmation") == []
    assert [tool["touched"] for tool in named(events, "tool")] == [[todos[0]], [todos[1]], []]
    assert [todo["completed"] for todo in (await client.get("/todos")).json()] == [True, True]


async def test_several_changes_of_one_todo_are_all_made(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "milk", "bread", "tea")
    first, second, third = todos
    calls = (
        *(rename(first, "a", completed=True), rename(first, "b")),
        *(delete(second), rename(second, "c")),
        *(rename(third, "d"), delete(third)),
    )
    upstream.script(Reply(calls=calls), DONE)
    question = named(await ask(client, "tidy up"), "confirmation")[0]
    assert [todo["new_title"] for todo in question["todos"]] == ["b", None, None]
    await confirm(client, question["id"], approve=True)
    listed = (await client.get("/todos")).json()
    assert [(todo["title"], todo["completed"]) for todo in listed] == [("b", True)]


async def test_a_question_of_the_release_before_gets_its_outcome(
    client: httpx.AsyncClient, upstream: OpenAIServer, server: Postgres
) -> None:
    await add(client, "milk", "bread")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    server.execute(
        "UPDATE assistant_messages SET steps ="
        " replace(steps::text, 'Nothing is done yet.', 'Nothing is deleted yet.')::jsonb"
    )
    upstream.script(DONE)
    await confirm(client, question["id"], approve=True)
    assert json.loads(upstream.received[0].messages[-1]["content"]) == {
        "confirmed": True,
        "done": 2,
    }


async def test_a_deletion_and_a_new_title_are_one_question(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "milk", "bread")
    upstream.script(Reply(calls=(delete(todos[0]), rename(todos[1], "all"))), DONE, DONE)
    question = named(await ask(client, "tidy up"), "confirmation")[0]
    assert question["question"] == "Change these 2 todos?"
    await confirm(client, question["id"], approve=False)
    assert await titles(client) == ["milk", "bread"]


async def test_the_release_before_deletes_nothing_that_was_to_be_renamed(
    client: httpx.AsyncClient, upstream: OpenAIServer, server: Postgres
) -> None:
    """It deletes each `id` of what the user approved."""
    todos = await add(client, "milk", "bread")
    upstream.script(Reply(calls=(rename(todos[0], "a"), rename(todos[1], "b"))))
    question = named(await ask(client, "rename both"), "confirmation")[0]
    ids = "SELECT todo->>'id' FROM assistant_confirmations, jsonb_array_elements(todos) AS todo"
    with psycopg.connect(server.url()) as conn:
        stored = conn.execute(f"{ids} WHERE id = %s", [question["id"]]).fetchall()
    assert len(stored) == 2
    assert not {todo for (todo,) in stored} & set(todos)


async def test_a_single_new_title_needs_no_question_and_comes_at_the_end(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "milk", "bread")
    upstream.script(Reply(calls=(rename(todos[0], "oat milk"),)), DONE)
    events = await ask(client, "rename milk")
    assert [name for name, _ in events] == ["text", "tool", "done"]
    assert named(events, "tool") == [{"name": "update_todo", "touched": [todos[0]]}]
    assert await titles(client) == ["oat milk", "bread"]


async def test_what_is_gone_meanwhile_is_no_error(client: httpx.AsyncClient) -> None:
    todos = await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    await client.delete(f"/todos/{todos[0]}")
    events = await confirm(client, question["id"], approve=True)
    assert named(events, "tool") == [{"name": "delete_todos", "touched": [todos[1]]}]


async def test_long_questions_are_shortened_in_the_history(client: httpx.AsyncClient) -> None:
    await add(client, *"abcdefg")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    assert len(question["todos"]) == 7
    assert (await history(client))[1][1].endswith("“d”, “e”, …")


async def test_an_answer_goes_on_with_all_that_it_knew(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    """Also results that are too long to be sent as history."""
    await ask(client, "hello")
    await add(client, *(f"{number} {'x' * 480}" for number in range(20)))
    question = named(await ask(client, "delete all"), "confirmation")[0]
    upstream.received.clear()
    await confirm(client, question["id"], approve=False)
    sent = upstream.received[0].messages
    assert [message["content"] for message in sent if message["role"] == "user"] == [
        "hello", "delete all",
    ]  # fmt: skip
    assert json.loads(sent[-3]["content"])["todos"][19]["title"].startswith("19 x")
    assert json.loads(sent[-1]["content"]) == {"confirmed": False, "done": 0}


async def test_an_answer_counts_once(client: httpx.AsyncClient) -> None:
    await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    path = f"/assistant/confirmations/{question['id']}"
    answers = await asyncio.gather(
        *(client.post(path, json={"approve": approve}) for approve in (True, False, True))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 409, 409]
    again = await client.post(path, json={"approve": True})
    assert (again.status_code, again.json()["code"]) == (409, "confirmation-answered")
    # The refusal has not left the user locked.
    assert text(await ask(client, "hello"))


async def test_only_the_one_who_was_asked_answers_and_only_in_time(
    application: Application, client: httpx.AsyncClient, server: Postgres
) -> None:
    await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    body = {"approve": True}
    async with application.client(new_user(server)) as other:
        for identifier in (question["id"], str(uuid4())):
            answer = await other.post(f"/assistant/confirmations/{identifier}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "confirmation-not-found")
    server.execute(
        "UPDATE assistant_confirmations SET expires_at = now() - interval '1 second'"
        f" WHERE id = '{question['id']}'"
    )
    answer = await client.post(f"/assistant/confirmations/{question['id']}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "confirmation-not-found")
    assert await titles(client) == ["a", "b"]
    answer = await client.post(f"/assistant/confirmations/{question['id']}", json={"approve": 1})
    assert answer.status_code == 422


async def test_a_question_is_open_for_ten_minutes(client: httpx.AsyncClient) -> None:
    await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    left = datetime.fromisoformat(question["expires_at"]) - datetime.now(UTC)
    assert turn.CONFIRM_SECONDS - 30 < left.total_seconds() <= turn.CONFIRM_SECONDS


async def test_a_forgotten_question_cannot_be_answered(client: httpx.AsyncClient) -> None:
    await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    await client.delete("/assistant")
    answer = await client.post(f"/assistant/confirmations/{question['id']}", json={"approve": True})
    assert answer.status_code == 404


async def test_what_was_agreed_to_is_done_although_upstream_fails(
    client: httpx.AsyncClient, upstream: OpenAIServer
) -> None:
    todos = await add(client, "a", "b")
    question = named(await ask(client, "delete all"), "confirmation")[0]
    upstream.script(Reply(status=500, body="{}"))
    events = await confirm(client, question["id"], approve=True)
    assert [name for name, _ in events] == ["tool", "error"]
    assert events[-1][1]["code"] == "assistant-unavailable"
    assert await titles(client) == []
    messages = (await client.get("/assistant")).json()["messages"]
    assert (messages[-1]["text"], messages[-1]["touched"]) == ("Changed 2 todos.", todos)


async def test_a_hundred_deletions_are_one_statement(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    todos = await add(client, *(f"todo {number}" for number in range(100)))
    question = named(await ask(client, "delete all"), "confirmation")[0]
    statements: list[list[UUID] | None] = []
    real = repository.delete_many

    async def counting(*arguments: Any) -> list[UUID]:
        statements.append(arguments[-1])
        return await real(*arguments)

    monkeypatch.setattr(repository, "delete_many", counting)
    events = await confirm(client, question["id"], approve=True)
    assert sorted(named(events, "tool")[0]["touched"]) == sorted(todos)
    assert [len(ids or []) for ids in statements] == [100]
    assert await titles(client) == []
