"""Every route rejects requests without a valid session.

The tests read the routes from the application's OpenAPI document, so they include new routes. A
list here names the routes that need no session.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from httpx import AsyncClient, Response

from app.openapi import document
from app.users.tokens import Tokens
from tests.accounts import ORIGIN, PASSWORD, Member, sign_up
from tests.conftest import AUTH_SECRET

pytestmark = pytest.mark.anyio

PREFIX = "/api/v1"
FOR_ANYBODY = {
    ("GET", "/health"),
    ("POST", "/users"),
    ("POST", "/session"),
    ("DELETE", "/session"),
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    body: Any
    protected: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    async def ask(self, client: AsyncClient, headers: dict[str, str], **ids: object) -> Response:
        """Path parameters that are not given get an ID that nothing has."""
        path = self.path
        while "{" in path:
            name = path.partition("{")[2].partition("}")[0]
            path = path.replace(f"{{{name}}}", str(ids.get(name, uuid4())))
        return await client.request(self.method, path, json=self.body, headers=headers)


def routes() -> list[Route]:
    found = []
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            security = operation.get("security", [{}])
            found.append(
                Route(
                    method.upper(),
                    path.removeprefix(PREFIX),
                    content.get("application/json", {}).get("example"),
                    protected={} not in security,
                )
            )
    return found


ROUTES = routes()
PROTECTED = [route for route in ROUTES if route.protected]


def token(key: str = AUTH_SECRET, algorithm: str = "HS256", **changes: object) -> str:
    now = datetime.now(UTC)
    payload = {
        "iss": "todo-backend",
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + timedelta(minutes=1),
    }
    return jwt.encode(payload | changes, key, algorithm)


async def expired(_: AsyncClient, member: Member) -> str:
    return token(sub=str(member.id), exp=datetime.now(UTC) - timedelta(seconds=1))


async def forged(client: AsyncClient, member: Member) -> str:
    """Another's token with this user's name in it."""
    other = await sign_up(client)
    head, _, signature = other.token.split(".")
    return f"{head}.{member.token.split('.')[1]}.{signature}"


async def alg_none(_: AsyncClient, member: Member) -> str:
    return token("", "none", sub=str(member.id))


async def alg_none_with_signature(_: AsyncClient, member: Member) -> str:
    return token("", "none", sub=str(member.id)) + member.token.rpartition(".")[2]


async def wrong_key(_: AsyncClient, member: Member) -> str:
    return token("not-a-secret-of-thirty-two-bytes!", sub=str(member.id))


async def other_algorithm(_: AsyncClient, member: Member) -> str:
    return token(AUTH_SECRET * 2, "HS512", sub=str(member.id))


async def revoked(client: AsyncClient, member: Member) -> str:
    answer = await client.delete("/session", headers=member.bearer)
    assert answer.status_code == 204
    return member.token


async def deleted_user(client: AsyncClient, member: Member) -> str:
    answer = await client.request(
        "DELETE", "/me", headers=member.bearer, json={"password": PASSWORD}
    )
    assert answer.status_code == 204
    return member.token


async def nobody(*_: object) -> str:
    return Tokens(AUTH_SECRET).issue(uuid4())[0]


async def nonsense(*_: object) -> str:
    return "nonsense"


Maker = Callable[[AsyncClient, Member], Awaitable[str]]
STRANGERS: list[Maker] = [
    expired, forged, alg_none, alg_none_with_signature, wrong_key, other_algorithm, revoked,
    deleted_user, nobody, nonsense,
]  # fmt: skip


def is_sent_away(answer: Response) -> bool:
    return (
        answer.status_code == 401
        and answer.headers["content-type"] == "application/problem+json"
        and answer.headers["www-authenticate"] == "Bearer"
        and answer.json()["code"] == "not-signed-in"
    )


def test_what_anybody_may_ask_is_listed() -> None:
    assert {(route.method, route.path) for route in ROUTES if not route.protected} == FOR_ANYBODY
    assert len(PROTECTED) >= 8


@pytest.mark.parametrize("route", PROTECTED, ids=str)
async def test_anonymous(anonymous: AsyncClient, route: Route) -> None:
    headers: dict[str, str]
    for headers in ({}, {"Origin": ORIGIN}, {"Authorization": "Basic bm90OmEtc2VjcmV0"}):
        assert is_sent_away(await route.ask(anonymous, headers))


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda maker: maker.__name__)
async def test_a_token_that_is_no_good(anonymous: AsyncClient, stranger: Maker) -> None:
    """On every route, as Bearer and as cookie."""
    member = await sign_up(anonymous)
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200
    shown = Member(member.id, member.email, await stranger(anonymous, member))
    for route in PROTECTED:
        for headers in (shown.bearer, shown.browser):
            answer = await route.ask(anonymous, headers)
            assert is_sent_away(answer), f"{route}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize("route", PROTECTED, ids=str)
async def test_another_user(anonymous: AsyncClient, route: Route) -> None:
    """Whatever another does, my things are as they were and not in the answer."""
    mine, other = await sign_up(anonymous), await sign_up(anonymous)
    todo = (await anonymous.post("/todos", json={"title": "mine"}, headers=mine.bearer)).json()
    answer = await route.ask(anonymous, other.bearer, todo_id=todo["id"])
    if "{" in route.path:
        unknown = await route.ask(anonymous, other.bearer)
        assert answer.status_code == unknown.status_code == 404
        assert without_names(answer) == without_names(unknown)
    else:
        assert todo["id"] not in answer.text
        assert mine.email not in answer.text
    assert (await anonymous.get("/todos", headers=mine.bearer)).json() == [todo]
    assert (await anonymous.get("/me", headers=mine.bearer)).status_code == 200


@pytest.mark.parametrize("route", PROTECTED, ids=str)
async def test_a_page_of_another_user(anonymous: AsyncClient, route: Route) -> None:
    """The cookie is of whoever signed in last; the page says whose it is."""
    mine, other = await sign_up(anonymous), await sign_up(anonymous)
    headers = other.browser | {"X-Todo-User": str(mine.id)}
    answer = await route.ask(anonymous, headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "other-user")
    assert (await anonymous.get("/me", headers=other.bearer)).status_code == 200
    same = await route.ask(anonymous, other.browser | {"X-Todo-User": str(other.id)})
    assert same.status_code != 409


@pytest.mark.parametrize("route", [one for one in ROUTES if one.method == "GET"], ids=str)
async def test_head_is_get_without_the_body(anonymous: AsyncClient, route: Route) -> None:
    mine = await sign_up(anonymous)
    todo = (await anonymous.post("/todos", json={"title": "mine"}, headers=mine.bearer)).json()
    full = await route.ask(anonymous, mine.bearer, todo_id=todo["id"])
    head = await replace(route, method="HEAD").ask(anonymous, mine.bearer, todo_id=todo["id"])
    assert (head.status_code, head.content) == (full.status_code, b"")
    for answer in (full, head):
        del answer.headers["x-request-id"]
    assert head.headers == full.headers


def without_names(answer: Response) -> dict[str, Any]:
    """What differs between any two requests is left out."""
    problem = answer.json()
    asked = problem.pop("instance").rpartition("/")[2]
    problem["detail"] = problem["detail"].replace(asked, "…")
    del problem["request_id"]
    return dict(problem)
