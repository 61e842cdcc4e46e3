"""The cookie, and what another site can do with it: nothing."""

from http.cookies import Morsel, SimpleCookie

import pytest
from httpx import AsyncClient, Response

from app.users.credential import COOKIE
from tests.accounts import ORIGIN, credentials, new_email, sign_up

pytestmark = pytest.mark.anyio

HTTPS = {"X-Forwarded-Proto": "https"}


def cookie_of(answer: Response) -> Morsel[str]:
    (header,) = answer.headers.get_list("set-cookie")
    return SimpleCookie(header)[COOKIE]


@pytest.mark.parametrize(("headers", "secure"), [({}, ""), (HTTPS, True)])
async def test_its_attributes(
    anonymous: AsyncClient, headers: dict[str, str], secure: object
) -> None:
    email = new_email()
    for path in ("/users", "/session"):
        answer = await anonymous.post(path, json=credentials(email), headers=headers)
        cookie = cookie_of(answer)
        assert cookie.value == answer.json()["token"]
        assert cookie["httponly"] is True
        assert cookie["samesite"] == "lax"
        assert cookie["path"] == "/"
        assert cookie["max-age"] == str(7 * 24 * 3600)
        assert cookie["domain"] == ""
        assert cookie["secure"] == secure


@pytest.mark.parametrize("path", ["/session", "/me"])
async def test_it_is_taken_away_with_the_session(anonymous: AsyncClient, path: str) -> None:
    member = await sign_up(anonymous)
    cookie = cookie_of(await anonymous.delete(path, headers=member.browser))
    assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", "0", "/")
    answer = await anonymous.get("/me", headers=member.browser)
    assert (answer.status_code, answer.json()["code"]) == (401, "not-signed-in")


async def test_a_bearer_token_wins(anonymous: AsyncClient) -> None:
    first, second = await sign_up(anonymous), await sign_up(anonymous)
    both = first.browser | second.bearer
    assert (await anonymous.get("/me", headers=both)).json()["id"] == str(second.id)
    for bad in ("Bearer nonsense", "Bearer", "bearer "):
        answer = await anonymous.get("/me", headers=first.browser | {"Authorization": bad})
        assert answer.status_code == 401
    basic = first.browser | {"Authorization": "Basic bm90OmEtc2VjcmV0"}
    assert (await anonymous.get("/me", headers=basic)).json()["id"] == str(first.id)


async def test_a_write_with_the_cookie_needs_our_origin(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    todo = (await anonymous.post("/todos", json={"title": "x"}, headers=member.browser)).json()
    cookie = {"Cookie": member.browser["Cookie"]}
    writes = [
        ("POST", "/todos", {"title": "forged"}),
        ("PATCH", todo["url"], {"title": "forged"}),
        ("DELETE", todo["url"], None),
        ("DELETE", "/todos", None),
        ("DELETE", "/session", None),
        ("DELETE", "/me", None),
        ("POST", "/session", credentials(member.email)),
        ("POST", "/users", credentials(new_email())),
    ]
    foreign = [
        {}, {"Origin": "null"}, {"Origin": ""}, {"Origin": "http://todo.test"},
        {"Origin": "https://todo.test:8080"}, {"Origin": "http://todo.test:8080.evil.example"},
        {"Origin": ORIGIN + "/"}, {"Origin": "http://evil.example"},
    ]  # fmt: skip
    for method, path, body in writes:
        for headers in foreign:
            answer = await anonymous.request(method, path, json=body, headers=cookie | headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")
            assert "set-cookie" not in answer.headers
    assert (await anonymous.get("/todos", headers=cookie)).json() == [todo]


async def test_a_read_needs_no_origin(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    cookie = {"Cookie": member.browser["Cookie"]}
    for headers in ({}, {"Origin": "http://evil.example"}):
        assert (await anonymous.get("/todos", headers=cookie | headers)).status_code == 200


async def test_the_origin_is_the_one_that_the_caller_sees(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    body = {"title": "x"}
    for headers in (
        HTTPS | {"Origin": "https://todo.test:8080"},
        {"X-Forwarded-Host": "todo.example", "Origin": "http://todo.example"},
        {"Host": "TODO.example", "Origin": "http://todo.example"},
    ):
        answer = await anonymous.post("/todos", json=body, headers=member.browser | headers)
        assert answer.status_code == 201
    # Where our own origin cannot be told, none is right.
    for headers in ({"Host": "no host", "Origin": ""}, {"Host": "no host", "Origin": "http://"}):
        answer = await anonymous.post("/todos", json=body, headers=member.browser | headers)
        assert answer.status_code == 403


async def test_nobody_is_signed_in_from_another_site(anonymous: AsyncClient) -> None:
    """Otherwise the victim would write into the attacker's account."""
    member = await sign_up(anonymous)
    headers = {"Origin": "http://evil.example"}
    for path, email in (("/session", member.email), ("/users", new_email())):
        answer = await anonymous.post(path, json=credentials(email), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")
        assert "set-cookie" not in answer.headers
        ours = await anonymous.post(path, json=credentials(email), headers={"Origin": ORIGIN})
        assert ours.is_success


async def test_a_bearer_token_needs_no_origin(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    headers = member.bearer | {"Origin": "http://tool.example"}
    answer = await anonymous.post("/todos", json={"title": "x"}, headers=headers)
    assert answer.status_code == 201
