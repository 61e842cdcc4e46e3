"""The Todo-Backend contract."""

from uuid import UUID, uuid4

import psycopg
import pytest
from httpx import AsyncClient

from app.main import create_app
from app.users.repository import LOCAL_USER_ID
from tests.accounts import sign_up
from tests.conftest import client_of, settings
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


async def add(client: AsyncClient, title: str, order: int | None = None) -> dict[str, object]:
    body: dict[str, object] = {"title": title}
    if order is not None:
        body["order"] = order
    answer = await client.post("/todos", json=body)
    assert answer.status_code == 201, answer.text
    todo: dict[str, object] = answer.json()
    return todo


async def titles(client: AsyncClient) -> list[str]:
    return [todo["title"] for todo in (await client.get("/todos")).json()]


async def test_the_list_is_empty_at_first(client: AsyncClient) -> None:
    answer = await client.get("/todos")
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["cache-control"] == "no-store"


async def test_a_new_todo_is_open_and_has_an_address(client: AsyncClient) -> None:
    answer = await client.post("/todos", json={"title": "walk the dog"})
    todo = answer.json()
    assert answer.status_code == 201
    assert set(todo) == {"id", "title", "completed", "order", "version", "url"}
    assert UUID(todo["id"])
    assert (todo["title"], todo["completed"], todo["order"]) == ("walk the dog", False, 1)
    assert todo["url"] == f"http://todo.test:8080/api/v1/todos/{todo['id']}"
    assert answer.headers["location"] == todo["url"]
    assert (await client.get(todo["url"])).json() == todo
    assert (await client.get("/todos")).json() == [todo]


async def test_todos_are_listed_by_order_and_new_ones_come_last(client: AsyncClient) -> None:
    await add(client, "second", 5)
    await add(client, "first", -3)
    await add(client, "third")
    assert await titles(client) == ["first", "second", "third"]


async def test_order_may_be_any_exact_json_integer(client: AsyncClient) -> None:
    greatest = 2**53 - 1
    assert (await add(client, "last", greatest))["order"] == greatest
    assert (await add(client, "also last"))["order"] == greatest
    assert (await add(client, "first", -greatest))["order"] == -greatest
    answer = await client.post("/todos", json={"title": "with a point", "order": 3.0})
    assert (answer.status_code, answer.json()["order"]) == (201, 3)


@pytest.mark.parametrize(
    "change", [{"title": "new"}, {"completed": True}, {"order": 95}, {"title": "x", "order": 0}]
)
async def test_a_change_changes_what_it_names_and_stays(
    client: AsyncClient, change: dict[str, object]
) -> None:
    todo = await add(client, "old", 7)
    answer = await client.patch(f"/todos/{todo['id']}", json=change)
    changed = answer.json()
    assert (answer.status_code, changed) == (200, todo | change | {"version": changed["version"]})
    assert changed["version"] > todo["version"]
    assert (await client.get(f"/todos/{todo['id']}")).json() == changed


async def test_a_completed_todo_can_be_opened_again(client: AsyncClient) -> None:
    todo = await add(client, "again")
    for completed in (True, False):
        answer = await client.patch(f"/todos/{todo['id']}", json={"completed": completed})
        assert answer.json()["completed"] is completed


async def test_an_empty_change_changes_nothing(client: AsyncClient) -> None:
    todo = await add(client, "same")
    answer = await client.patch(f"/todos/{todo['id']}", json={})
    assert (answer.status_code, answer.json()) == (200, todo)


async def test_one_todo_is_deleted(client: AsyncClient) -> None:
    todo = await add(client, "gone")
    await add(client, "stays")
    assert (await client.delete(f"/todos/{todo['id']}")).status_code == 204
    assert await titles(client) == ["stays"]
    assert (await client.delete(f"/todos/{todo['id']}")).status_code == 404


async def test_all_todos_are_deleted(client: AsyncClient) -> None:
    await add(client, "one")
    await add(client, "two")
    answer = await client.delete("/todos")
    assert (answer.status_code, answer.content) == (204, b"")
    assert await titles(client) == []


@pytest.mark.parametrize(("query", "left"), [("true", ["open"]), ("false", ["done"])])
async def test_only_completed_or_only_open_ones_are_deleted(
    client: AsyncClient, query: str, left: list[str]
) -> None:
    await add(client, "open")
    done = await add(client, "done")
    await client.patch(f"/todos/{done['id']}", json={"completed": True})
    assert (await client.delete(f"/todos?completed={query}")).status_code == 204
    assert await titles(client) == left


async def test_completed_ones_that_changed_lately_are_kept_unless_named(
    client: AsyncClient, server: Postgres
) -> None:
    todos = {title: await add(client, title) for title in ("old", "lately", "named", "open")}
    for title in ("old", "lately", "named"):
        await client.patch(f"/todos/{todos[title]['id']}", json={"completed": True})
    with psycopg.connect(server.url()) as conn:
        conn.execute("UPDATE todos SET updated_at = now() - interval '7 s' WHERE title = 'old'")
    query = f"completed=true&unchanged_for=6000&id={todos['named']['id']}&id={todos['open']['id']}"
    assert (await client.delete(f"/todos?{query}")).status_code == 204
    assert await titles(client) == ["lately", "open"]
    query = f"completed=true&id={todos['open']['id']}"
    assert (await client.delete(f"/todos?{query}")).status_code == 204
    assert await titles(client) == ["lately", "open"]
    assert (await client.delete("/todos?completed=true&unchanged_for=0")).status_code == 204
    assert await titles(client) == ["open"]
    assert (await client.delete("/todos?unchanged_for=-1")).status_code == 422
    assert (await client.delete(f"/todos?unchanged_for={10**15}")).status_code == 422


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_a_todo_that_is_not_there(client: AsyncClient, method: str) -> None:
    todo = uuid4()
    body = {"title": "x"} if method == "PATCH" else None
    answer = await client.request(method, f"/todos/{todo}", json=body)
    assert answer.status_code == 404
    assert answer.json()["code"] == "todo-not-found"
    assert str(todo) in answer.json()["detail"]


async def test_pages_join_to_the_whole_list(client: AsyncClient) -> None:
    for number in range(7):
        await add(client, f"todo {number}", number // 3)  # equal orders cross page borders
    everything = (await client.get("/todos")).json()
    pages, url = [], "/todos?limit=2"
    while url:
        answer = await client.get(url)
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url", "")
        assert url == "" or url.startswith("http://todo.test:8080/api/v1/todos?limit=2&after=")
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert [todo for page in pages for todo in page] == everything


async def test_no_page_has_more_than_500(server: Postgres, client: AsyncClient) -> None:
    server.execute(
        "INSERT INTO todos (user_id, title, position)"
        f" SELECT '{LOCAL_USER_ID}', 'x', number FROM generate_series(1, 501) AS number"
    )
    page = await client.get("/todos")
    assert len(page.json()) == 500
    assert len((await client.get(page.links["next"]["url"])).json()) == 1
    assert (await client.get("/todos?limit=501")).status_code == 422


async def test_of_one_position_the_older_todo_comes_first(client: AsyncClient) -> None:
    names = [f"todo {number}" for number in range(8)]
    for name in names:
        await add(client, name, 1)
    assert await titles(client) == names
    url, read = "/todos?limit=3", []
    while url:
        answer = await client.get(url)
        read += [todo["title"] for todo in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert read == names


async def test_there_is_a_quota_of_todos(server: Postgres) -> None:
    app = create_app(settings(server.url(), todos_per_user=3))
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.headers.update((await sign_up(client)).bearer)
        key = {"Idempotency-Key": "third"}
        await add(client, "first")
        first = await add(client, "second")
        made = await client.post("/todos", json={"title": "third"}, headers=key)
        for headers in ({}, {"Idempotency-Key": "fourth"}):
            answer = await client.post("/todos", json={"title": "fourth"}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "too-many-todos")
            assert "3 todos" in answer.json()["detail"]
        # What was made before the limit was reached is still what it was.
        again = await client.post("/todos", json={"title": "third"}, headers=key)
        assert (again.status_code, again.json()) == (201, made.json())
        await client.delete(f"/todos/{first['id']}")
        await add(client, "fourth")


async def test_a_full_last_page_has_no_next(client: AsyncClient) -> None:
    await add(client, "one")
    await add(client, "two")
    assert "link" not in (await client.get("/todos?limit=2")).headers


async def test_a_page_continues_after_a_todo_that_is_deleted_meanwhile(client: AsyncClient) -> None:
    first = await add(client, "first")
    await add(client, "second")
    following = (await client.get("/todos?limit=1")).links["next"]["url"]
    await client.delete(f"/todos/{first['id']}")
    assert [todo["title"] for todo in (await client.get(following)).json()] == ["second"]


async def test_named_todos_are_listed_alone(client: AsyncClient) -> None:
    one, _, three = [await add(client, title) for title in ("one", "two", "three")]
    query = f"id={three['id']}&id={one['id']}&id={uuid4()}"
    assert (await client.get(f"/todos?{query}")).json() == [one, three]
    page = await client.get(f"/todos?{query}&limit=1")
    assert page.json() == [one]
    assert (await client.get(page.links["next"]["url"])).json() == [three]
    assert (await client.get(f"/todos?{'&'.join(['id=' + str(uuid4())] * 101)}")).status_code == 422


@pytest.mark.parametrize("completed", [True, False])
async def test_all_todos_are_changed_by_one_statement(
    client: AsyncClient, server: Postgres, completed: bool
) -> None:
    todos = [await add(client, f"todo {number}") for number in range(3)]
    await client.patch(f"/todos/{todos[1]['id']}", json={"completed": completed})
    if not completed:
        for todo in (todos[0], todos[2]):
            await client.patch(f"/todos/{todo['id']}", json={"completed": True})
    before = {todo["id"]: todo for todo in (await client.get("/todos")).json()}
    answer = await client.patch("/todos", json={"completed": completed})
    assert (answer.status_code, answer.content) == (204, b"")
    with psycopg.connect(server.url()) as conn:
        query = "SELECT count(DISTINCT xmin::text) FROM todos WHERE id <> %s"
        # There is no transaction around them: only rows of one statement share this.
        assert conn.execute(query, (todos[1]["id"],)).fetchone() == (1,)
    after = (await client.get("/todos")).json()
    assert [todo["completed"] for todo in after] == [completed] * 3
    for todo in after:
        was = before[todo["id"]]
        assert (todo["version"] > was["version"]) == (todo["completed"] != was["completed"])


async def test_a_change_of_something_older_is_refused(client: AsyncClient) -> None:
    todo = await add(client, "as it was")
    address = f"/todos/{todo['id']}"
    first = (await client.get(address)).headers["etag"]
    assert first == f'"{todo["version"]}"'
    changed = await client.patch(address, json={"title": "mine"}, headers={"If-Match": first})
    assert changed.status_code == 200
    second = changed.headers["etag"]
    assert second != first
    for stale in (first, f"W/{second}", '"0"', "nonsense", f"x{second}"):
        for method, body in (("PATCH", {"title": "yours"}), ("PATCH", {}), ("DELETE", None)):
            answer = await client.request(method, address, json=body, headers={"If-Match": stale})
            assert (answer.status_code, answer.json()["code"]) == (412, "todo-changed"), stale
    assert (await client.get(address)).json() == changed.json()
    either = await client.patch(address, json={}, headers={"If-Match": f"{first}, {second}"})
    assert either.status_code == 200
    assert (await client.delete(address, headers={"If-Match": "*"})).status_code == 204
    gone = await client.patch(address, json={"title": "x"}, headers={"If-Match": "*"})
    assert gone.status_code == 404
