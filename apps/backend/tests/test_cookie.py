"""The session cookie, and that other sites cannot use it."""

from datetime import UTC, datetime, timedelta
from http.cookies import Morsel, SimpleCookie

import jwt
import pytest
from httpx import AsyncClient, Response

from app.main import create_app
from app.users.tokens import ALGORITHM, ISSUER, LIFETIME, Tokens
from tests.accounts import COOKIE, ORIGIN, PASSWORD, credentials, new_email, sign_up
from tests.conftest import AUTH_SECRET, client_of, settings
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

HTTPS = {"X-Forwarded-Proto": "https"}


def cookie_of(answer: Response) -> Morsel[str]:
    """The session's, which comes first."""
    return SimpleCookie(answer.headers.get_list("set-cookie")[0])[COOKIE]


@pytest.mark.parametrize(("headers", "secure"), [({}, ""), (HTTPS, True)])
async def test_its_attributes(
    anonymous: AsyncClient, headers: dict[str, str], secure: object
) -> None:
    email = new_email()
    for path in ("/users", "/session"):
        answer = await anonymous.post(path, json=credentials(email), headers=headers)
        cookie = cookie_of(answer)
        me = await anonymous.get("/me", headers={"Cookie": f"{COOKIE}={cookie.value}"})
        assert me.json()["email"] == email
        assert cookie["httponly"] is True
        assert cookie["samesite"] == "lax"
        assert cookie["path"] == "/"
        assert cookie["max-age"] == str(7 * 24 * 3600)
        assert cookie["domain"] == ""
        assert cookie["secure"] == secure


@pytest.mark.parametrize("path", ["/session", "/me", "/session?everywhere=true"])
async def test_it_is_taken_away_with_the_session(anonymous: AsyncClient, path: str) -> None:
    member = await sign_up(anonymous)
    body = {"password": PASSWORD} if path == "/me" else None
    cookie = cookie_of(await anonymous.request("DELETE", path, headers=member.browser, json=body))
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
        cookie = {"Cookie": f"todo_session={member.token}"}
        answer = await anonymous.post("/todos", json=body, headers=cookie | headers)
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


async def test_a_tunnel_that_ends_tls_keeps_nobody_out(server: Postgres) -> None:
    """Its users have another scheme and host than the request that arrives."""
    tunnel = {"Origin": "https://name-8080.app.example.dev"}
    app = create_app(settings(server.url(), allowed_origins="https://other.example"))
    async with app.router.lifespan_context(app), client_of(app) as client:
        member = await sign_up(client)
        body = credentials(member.email)
        refused = await client.post("/session", json=body, headers=tunnel)
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign-origin")
        assert tunnel["Origin"] in refused.json()["detail"]
        assert "config.allowedOrigins" in refused.json()["detail"]
        for headers, status in (
            # What the browser says, and no page can.
            (tunnel | {"Sec-Fetch-Site": "same-origin"}, 200),
            (tunnel | {"Sec-Fetch-Site": "cross-site"}, 403),
            (tunnel | {"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://OTHER.example"}, 200),
            ({"Origin": "https://other.example.evil"}, 403),
        ):
            answer = await client.post("/session", json=body, headers=headers)
            assert answer.status_code == status
            if status == 200:
                assert cookie_of(answer)["secure"] is True


async def test_two_profiles_on_one_host_have_cookies_of_their_own(anonymous: AsyncClient) -> None:
    member, other = await sign_up(anonymous), await sign_up(anonymous)
    at = {"Host": "localhost:8081"}
    answer = await anonymous.post("/session", json=credentials(other.email), headers=at)
    assert answer.headers["set-cookie"].startswith("todo_8081_session=")
    both = {"Cookie": f"{COOKIE}={member.token}; todo_8081_session={other.token}"}
    assert (await anonymous.get("/me", headers=both)).json()["email"] == member.email
    assert (await anonymous.get("/me", headers=both | at)).json()["email"] == other.email


async def test_pods_of_the_release_before_share_the_session(anonymous: AsyncClient) -> None:
    """They know the old name alone, and another port of the host may have set it."""
    first = await sign_up(anonymous)
    for path, status in (("/users", 409), ("/session", 200)):
        answer = await anonymous.post(path, json=credentials(first.email))
        assert answer.status_code == status
    cookies = [SimpleCookie(header) for header in answer.headers.get_list("set-cookie")[:2]]
    assert [list(cookie) for cookie in cookies] == [[COOKIE], ["todo_session"]]
    assert cookies[0][COOKIE].value == cookies[1]["todo_session"].value
    second = await sign_up(anonymous)
    bad = jwt.encode({"iss": ISSUER}, "not-a-secret-of-another-profile!!", ALGORITHM)

    async def who(**cookies: str) -> str | None:
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        me: dict[str, str] = (await anonymous.get("/me", headers={"Cookie": header})).json()
        return me.get("email")

    assert await who(todo_session=first.token) == first.email
    # The second signed in at an old pod, then the first at a new one that lost the other cookie.
    assert await who(todo_8080_session=first.token, todo_session=second.token) == second.email
    assert await who(todo_8080_session=second.token, todo_session=first.token) == second.email
    # Another profile's pods set the old name: with a secret of their own, or with the same one.
    assert await who(todo_8080_session=first.token, todo_session=bad) == first.email
    assert await who(todo_8080_session=bad, todo_session=first.token) == first.email
    other = {"todo_8081_session": second.token, "todo_session": second.token}
    assert await who(todo_8080_session=first.token, **other) == first.email
    assert await who(**other) is None


@pytest.mark.parametrize("name", [COOKIE, "todo_session"])
async def test_sign_out_clears_the_old_cookie_too(anonymous: AsyncClient, name: str) -> None:
    member = await sign_up(anonymous)
    headers = {"Cookie": f"{name}={member.token}", "Origin": ORIGIN}
    cleared = (await anonymous.delete("/session", headers=headers)).headers.get_list("set-cookie")
    assert {header.partition("=")[0] for header in cleared} == {"todo_session", COOKIE}


async def test_a_browser_gets_the_token_as_a_cookie_alone(anonymous: AsyncClient) -> None:
    email = new_email()
    for headers in ({"Origin": ORIGIN}, {"Sec-Fetch-Site": "same-origin"}):
        for path in ("/users", "/session"):
            answer = await anonymous.post(path, json=credentials(email), headers=headers)
            if answer.status_code != 409:
                assert set(answer.json()) == {"token_type", "expires_at", "user"}
                assert cookie_of(answer).value not in answer.text


async def test_a_session_in_use_is_renewed(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    now = datetime.now(UTC)
    tokens = Tokens(AUTH_SECRET)

    def aged(days: float) -> str:
        claims = tokens.read(member.token)
        assert claims is not None
        payload = {
            "iss": ISSUER, "sub": str(member.id), "jti": str(claims.id),
            "iat": claims.began_at.timestamp(), "exp": now + LIFETIME - timedelta(days=days),
        }  # fmt: skip
        return jwt.encode(payload, AUTH_SECRET, ALGORITHM)

    fresh = await anonymous.get("/todos", headers={"Cookie": f"{COOKIE}={aged(0.9)}"})
    assert "set-cookie" not in fresh.headers
    by_token = await anonymous.get("/todos", headers={"Authorization": f"Bearer {aged(2)}"})
    assert "set-cookie" not in by_token.headers
    renewed = cookie_of(await anonymous.get("/todos", headers={"Cookie": f"{COOKIE}={aged(2)}"}))
    assert renewed["max-age"] == str(7 * 24 * 3600)
    claims = tokens.read(renewed.value)
    assert claims is not None
    assert claims.expires_at - now > LIFETIME - timedelta(minutes=1)
    # It is still the same session: ending it ends the older token and the newer one.
    await anonymous.delete("/session", headers={"Authorization": f"Bearer {member.token}"})
    for token in (aged(2), renewed.value):
        ended = await anonymous.get("/todos", headers={"Cookie": f"{COOKIE}={token}"})
        assert (ended.status_code, "set-cookie" in ended.headers) == (401, False)


@pytest.mark.parametrize(
    ("origins", "secure"),
    [("https://todo.test:8080", True), ("https://other.test http://todo.test:8080", "")],
)
async def test_a_renewed_cookie_stays_secure_behind_a_tunnel(
    server: Postgres, origins: str, secure: object
) -> None:
    """A read has no Origin that would say https."""
    app = create_app(settings(server.url(), allowed_origins=origins))
    async with app.router.lifespan_context(app), client_of(app) as client:
        member = await sign_up(client)
        claims = Tokens(AUTH_SECRET).read(member.token)
        assert claims is not None
        payload = {
            "iss": ISSUER, "sub": str(member.id), "jti": str(claims.id),
            "iat": claims.began_at.timestamp(), "exp": claims.expires_at - timedelta(days=2),
        }  # fmt: skip
        aged = jwt.encode(payload, AUTH_SECRET, ALGORITHM)
        renewed = await client.get("/todos", headers={"Cookie": f"{COOKIE}={aged}"})
        assert cookie_of(renewed)["secure"] == secure


def known_cookies(answer: Response) -> dict[str, str]:
    """Their names, and how long they are to be kept."""
    cookies = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        cookies.load(header)
    return {name: cookies[name]["max-age"] for name in cookies if "_known_" in name}


async def test_a_browser_keeps_few_known_cookies(anonymous: AsyncClient) -> None:
    """Those of many accounts would be more than servers take in headers."""
    member = await sign_up(anonymous)
    old = [f"todo_8081_known_0000000{number}_token" for number in range(7)]
    headers = {"Cookie": "; ".join(f"{name}=x" for name in [*old, "todo_known_x_token"])}
    answer = await anonymous.post("/session", json=credentials(member.email), headers=headers)
    kept = known_cookies(answer)
    (own,) = kept.keys() - set(old)
    assert kept == {own: str(365 * 24 * 3600)} | dict.fromkeys(old[:3], "0")
    # It goes with the account, and with nothing else.
    assert known_cookies(await anonymous.delete("/session", headers=member.browser)) == {}
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    answer = await anonymous.request("DELETE", "/me", headers=headers, json={"password": PASSWORD})
    assert (answer.status_code, known_cookies(answer)) == (204, {own: "0"})
