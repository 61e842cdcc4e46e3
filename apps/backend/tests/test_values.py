"""Accepted and rejected values, and the place that an error names."""

import pytest
from httpx import AsyncClient

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  milk \n", "milk"),
        ("\u3000全角\u3000", "全角"),
        ("x" * 500, "x" * 500),
        (" " * 600 + "y" + " " * 600, "y"),
        ("👩‍👩‍👧‍👦" * 71, "👩‍👩‍👧‍👦" * 71),
        ("<script>alert('\"&')</script>", "<script>alert('\"&')</script>"),
        ("'; DROP TABLE todos; --", "'; DROP TABLE todos; --"),
        ("%s %(user)s {title}", "%s %(user)s {title}"),
        ("\u202eright to left \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
         "\u202eright to left 😀"),
        ("\x01\x7f", "\x01\x7f"),
    ],
)  # fmt: skip
async def test_a_title_is_trimmed_and_kept(client: AsyncClient, given: str, kept: str) -> None:
    todo = (await client.post("/todos", json={"title": given})).json()
    assert todo["title"] == kept
    again = await client.patch(f"/todos/{todo['id']}", json={"title": given})
    assert again.json()["title"] == kept
    assert (await client.get("/todos")).json()[0]["title"] == kept


@pytest.mark.parametrize(
    "title",
    ["", "   ", "\n\t\u3000", "x" * 501, "nul \0 inside", "\0", None, 5, True, ["a"], {"a": 1}],
)
async def test_a_title_that_is_refused(client: AsyncClient, title: object) -> None:
    todo = (await client.post("/todos", json={"title": "as it was"})).json()
    for answer in (
        await client.post("/todos", json={"title": title}),
        await client.patch(f"/todos/{todo['id']}", json={"title": title}),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == "validation"
        assert [(e["location"], e["pointer"]) for e in problem["errors"]] == [("body", "/title")]
    assert (await client.get("/todos")).json() == [todo]


@pytest.mark.parametrize(
    "order", ["1", 1.5, True, 2**53, -(2**53), pytest.param(10**400, id="huge"), [], {}]
)
async def test_an_order_that_is_refused(client: AsyncClient, order: object) -> None:
    answer = await client.post("/todos", json={"title": "x", "order": order})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/order"


@pytest.mark.parametrize("change", [{"completed": "yes"}, {"completed": None}, {"order": None}])
async def test_a_change_that_is_refused(client: AsyncClient, change: dict[str, object]) -> None:
    todo = (await client.post("/todos", json={"title": "x"})).json()
    answer = await client.patch(f"/todos/{todo['id']}", json=change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(change))}"


async def test_a_misspelt_field_is_named(client: AsyncClient) -> None:
    answer = await client.post("/todos", json={"title": "x", "a/b~": 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/a~1b~0"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b'"title"', 422),
        (b'{"title": "\\ud800"}', 422),
        (b'{"title": "\xff"}', 400),
        (b'{"title": ' + b"[" * 20_000, 400),
        (b'{"title": NaN}', 422),
    ],
)
async def test_a_body_that_is_no_todo(client: AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post("/todos", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


async def test_a_body_must_call_itself_json(client: AsyncClient) -> None:
    """What a foreign site's plain form can send is not taken."""
    answer = await client.post(
        "/todos", content=b'{"title":"x"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/todos?limit=0",
        "/todos?limit=501",
        "/todos?limit=many",
        "/todos?after=1",
        "/todos?after=1_xyz",
        "/todos?after=%00",
        "/todos/not-a-uuid",
        "/health?probe=steady",
    ],
)
async def test_a_parameter_that_is_refused(client: AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] in {"query", "path"}


async def test_a_page_after_the_greatest_number_is_empty(client: AsyncClient) -> None:
    await client.post("/todos", json={"title": "x"})
    answer = await client.get(f"/todos?after={'9' * 16}_{'f' * 32}")
    assert (answer.status_code, answer.json()) == (200, [])
