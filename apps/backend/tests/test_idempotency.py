"""A POST that a client repeats after a lost answer creates no second todo."""

import asyncio

import psycopg
import pytest
from httpx import AsyncClient, Response

from app.users.repository import LOCAL_USER_ID
from tests.accounts import sign_up
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


async def post(client: AsyncClient, key: str, **body: object) -> Response:
    return await client.post("/todos", json=body, headers={"Idempotency-Key": key})


async def count(client: AsyncClient) -> int:
    return len((await client.get("/todos")).json())


async def test_the_first_answer_again(client: AsyncClient) -> None:
    first = await post(client, "one", title="milk", order=7)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    for body in ({"title": "milk", "order": 7}, {"order": 7, "title": " milk\n"}):
        again = await post(client, "one", **body)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["idempotency-replayed"] == "true"
    assert (await client.get("/todos")).json() == [first.json()]


async def test_even_if_the_todo_changed_or_went_since(client: AsyncClient) -> None:
    first = (await post(client, "two", title="milk")).json()
    await client.patch(first["url"], json={"title": "cheese", "completed": True, "order": 9})
    assert (await post(client, "two", title="milk")).json() == first
    await client.delete(first["url"])
    assert (await post(client, "two", title="milk")).json() == first
    assert await count(client) == 0


async def test_the_caller_may_come_by_another_address(client: AsyncClient) -> None:
    await post(client, "three", title="milk")
    again = await client.post(
        "/todos",
        json={"title": "milk"},
        headers={"Idempotency-Key": "three", "X-Forwarded-Host": "todo.example"},
    )
    assert again.json()["url"].startswith("http://todo.example/api/v1/todos/")


@pytest.mark.parametrize("other", [{"title": "cheese"}, {"title": "milk", "order": 1}])
async def test_a_key_is_for_one_todo(client: AsyncClient, other: dict[str, object]) -> None:
    key = f"four-{len(other)}"
    await post(client, key, title="milk")
    answer = await post(client, key, **other)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert await count(client) == 1


async def test_another_key_or_none_makes_another_todo(client: AsyncClient) -> None:
    await post(client, "five", title="milk")
    await post(client, "Five", title="milk")
    for _ in range(2):
        await client.post("/todos", json={"title": "milk"})
    todos = (await client.get("/todos")).json()
    assert [todo["order"] for todo in todos] == [1, 2, 3, 4]


async def test_a_key_is_its_users_own(client: AsyncClient) -> None:
    first, second = await sign_up(client), await sign_up(client)
    made = set()
    for member in (first, second):
        headers = member.bearer | {"Idempotency-Key": "same"}
        answer = await client.post("/todos", json={"title": "mine"}, headers=headers)
        assert "idempotency-replayed" not in answer.headers
        made.add(answer.json()["id"])
    assert len(made) == 2


async def test_many_at_once_make_one_todo(client: AsyncClient) -> None:
    answers = await asyncio.gather(*(post(client, "six", title="milk") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await count(client) == 1


async def test_a_key_is_kept_for_a_day(server: Postgres, client: AsyncClient) -> None:
    first = (await post(client, "seven", title="milk")).json()
    await post(client, "eight", title="milk")
    for hours, replayed in ((23, True), (2, False)):
        server.execute(
            f"UPDATE idempotency_keys SET created_at = created_at - interval '{hours} hours'"
        )
        again = await post(client, "seven", title="milk")
        assert ("idempotency-replayed" in again.headers) is replayed
        assert (again.json()["id"] == first["id"]) is replayed
    with psycopg.connect(server.url()) as conn:
        kept = conn.execute("SELECT key FROM idempotency_keys").fetchall()
    assert kept == [("seven",)]  # what is older is removed


async def test_old_keys_go_by_the_hundred(server: Postgres, client: AsyncClient) -> None:
    server.execute(
        "INSERT INTO idempotency_keys"
        " (user_id, key, request_digest, todo_id, title, position, created_at)"
        f" SELECT '{LOCAL_USER_ID}', number, '', gen_random_uuid(), 'x', 1, now() - interval '2 d'"
        " FROM generate_series(1, 250) AS number"
    )
    for number, left in enumerate((151, 52, 3)):
        assert (await post(client, f"new-{number}", title="milk")).status_code == 201
        with psycopg.connect(server.url()) as conn:
            assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (left,)


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "\x7f", "ü"])
async def test_a_key_that_is_refused(client: AsyncClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    answer = await client.post("/todos", json={"title": "x"}, headers=headers)
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert (error["location"], error["pointer"]) == ("header", "/idempotency-key")
    assert await count(client) == 0


@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"', "a,b;c=d"])
async def test_a_key_that_is_taken(client: AsyncClient, key: str) -> None:
    for _ in range(2):
        assert (await post(client, key, title="x")).status_code == 201
    assert await count(client) == 1
