"""Limits on password guesses: the same for all replicas, because Postgres counts."""

import asyncio
from http.cookies import SimpleCookie

import httpx
import psycopg
import pytest
from httpx import AsyncClient, Response

from app.core import limits
from app.core.db import Database
from app.core.limits import Bucket, describe_wait
from app.users.client import is_shared
from app.users.passwords import Passwords
from app.users.service import MAX_PER_ACCOUNT, MAX_PER_ACCOUNT_AND_CLIENT, MAX_PER_CLIENT
from tests.accounts import PASSWORD, Member, credentials, new_email, sign_up
from tests.conftest import AUTH_SECRET
from tests.postgres import Postgres
from tests.processes import running, wait_until_ready

pytestmark = pytest.mark.anyio

GUESSER, OTHER = "8.8.4.4", "1.1.1.1"  # addresses that no NAT hands out
NAT = "192.168.49.1"  # before Minikube, everybody's


@pytest.fixture
def free_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Argon2: these tests count, and time is not their subject."""

    async def compare(self: Passwords, stored: str | None, password: str) -> bool:  # noqa: ARG001
        return password == PASSWORD

    monkeypatch.setattr(Passwords, "verify", compare)


async def guess(client: AsyncClient, email: str, address: str = GUESSER) -> Response:
    return await client.post(
        "/session",
        json=credentials(email, "wrong password"),
        headers={"X-Forwarded-For": address},
    )


async def right(
    client: AsyncClient, member: Member, address: str = GUESSER, **headers: str
) -> Response:
    return await client.post(
        "/session",
        json=credentials(member.email),
        headers={"X-Forwarded-For": address} | headers,
    )


def is_refusal(answer: Response, most: int = 180) -> bool:
    return (
        answer.status_code == 429
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["code"] == "too-many-attempts"
        and 0 < int(answer.headers["retry-after"]) <= most
        and describe_wait(int(answer.headers["retry-after"])) in answer.json()["detail"]
    )


def age(server: Postgres, seconds: int) -> None:
    server.execute(
        f"UPDATE limits SET empty_at = empty_at - interval '{seconds} s',"
        f" free_at = free_at - interval '{seconds} s'"
    )


def count(server: Postgres) -> int:
    with psycopg.connect(server.url()) as conn:
        row = conn.execute("SELECT count(*) FROM limits").fetchone()
    assert row is not None
    return int(row[0])


def known_cookies(answer: Response) -> str:
    """Without the session's: what a browser has left after signing out."""
    cookies = SimpleCookie(", ".join(answer.headers.get_list("set-cookie")))
    return "; ".join(f"{name}={cookies[name].value}" for name in cookies if "known" in name)


@pytest.mark.usefixtures("free_guesses")
async def test_guesses_from_elsewhere_do_not_lock_the_owner_out(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    for _ in range(MAX_PER_ACCOUNT_AND_CLIENT):
        assert (await guess(anonymous, member.email)).status_code == 401
    assert is_refusal(await guess(anonymous, member.email), most=2)
    assert is_refusal(await right(anonymous, member), most=2)  # or guessing on would still pay
    assert is_refusal(await guess(anonymous, member.email.upper()), most=2)
    assert (await right(anonymous, member, OTHER)).status_code == 200
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200
    assert (await right(anonymous, await sign_up(anonymous))).status_code == 200


@pytest.mark.usefixtures("free_guesses")
async def test_each_guess_takes_longer(server: Postgres, anonymous: AsyncClient) -> None:
    email = new_email()
    for _ in range(MAX_PER_ACCOUNT_AND_CLIENT):
        await guess(anonymous, email)
    delays = []
    for _ in range(12):
        refused = await guess(anonymous, email)
        assert is_refusal(refused)
        delays.append(int(refused.headers["retry-after"]))
        age(server, delays[-1])
        assert (await guess(anonymous, email)).status_code == 401
    assert delays[:4] == [2, 4, 8, 16]
    assert delays == sorted(delays)
    assert 90 < delays[-1] <= 180  # in the long run five in a quarter of an hour
    age(server, 900)
    assert (await guess(anonymous, email)).status_code == 401


@pytest.mark.usefixtures("free_guesses")
async def test_many_clients_are_no_way_around_the_accounts_limit(
    server: Postgres, anonymous: AsyncClient
) -> None:
    member = await sign_up(anonymous)
    for number in range(MAX_PER_ACCOUNT):
        assert (await guess(anonymous, member.email, f"8.8.0.{number}")).status_code == 401
    assert is_refusal(await guess(anonymous, member.email, "8.8.1.1"), most=2)
    age(server, 2)
    assert (await right(anonymous, member, "8.8.1.1")).status_code == 200


@pytest.mark.usefixtures("free_guesses")
@pytest.mark.parametrize("address", [GUESSER, NAT])
async def test_a_known_client_always_gets_in(anonymous: AsyncClient, address: str) -> None:
    member, other = await sign_up(anonymous), await sign_up(anonymous)
    known = known_cookies(await right(anonymous, member, address))
    assert known
    for _ in range(MAX_PER_ACCOUNT):
        await guess(anonymous, member.email, address)
        await guess(anonymous, other.email, address)
    assert is_refusal(await right(anonymous, member, address))
    answer = await right(anonymous, member, address, cookie=known)
    assert answer.status_code == 200
    # It is known to this account alone, and opens nothing.
    name, _, token = known.partition("=")
    forged = known_cookies(await right(anonymous, await sign_up(anonymous), OTHER)).partition("=")[
        0
    ]
    for cookie in (known, f"{forged}={token}", f"{name}={token[:-2]}", f"{name}={member.token}"):
        assert is_refusal(await right(anonymous, other, address, cookie=cookie))
    assert (await anonymous.get("/me", headers={"Cookie": known})).status_code == 401
    assert (
        await anonymous.get("/me", headers={"Authorization": f"Bearer {token}"})
    ).status_code == 401


@pytest.mark.usefixtures("free_guesses")
@pytest.mark.parametrize("password", [True, False])
async def test_a_client_is_not_known_any_more_when_all_sessions_end(
    anonymous: AsyncClient, password: bool
) -> None:
    member = await sign_up(anonymous)
    known = known_cookies(await right(anonymous, member))
    if password:
        body = {"password": PASSWORD, "new_password": PASSWORD}
        ended = await anonymous.put("/me/password", json=body, headers=member.bearer)
    else:
        ended = await anonymous.delete("/session?everywhere=true", headers=member.bearer)
    assert ended.is_success
    signed_in = ended if password else await right(anonymous, member, OTHER)
    for _ in range(MAX_PER_ACCOUNT):
        await guess(anonymous, member.email)
    assert is_refusal(await right(anonymous, member, cookie=known))
    again = known_cookies(signed_in)
    assert (await right(anonymous, member, cookie=again)).status_code == 200


@pytest.mark.usefixtures("free_guesses")
async def test_a_known_client_may_not_guess_for_ever(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    known = known_cookies(await right(anonymous, member))
    wrong = credentials(member.email, "wrong password")
    for _ in range(MAX_PER_CLIENT):
        answer = await anonymous.post("/session", json=wrong, headers={"Cookie": known})
        assert answer.status_code == 401
    assert is_refusal(await right(anonymous, member, cookie=known), most=2)


@pytest.mark.usefixtures("free_guesses")
async def test_the_right_password_does_not_count(server: Postgres, anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    for _ in range(MAX_PER_ACCOUNT_AND_CLIENT - 1):
        assert (await guess(anonymous, member.email)).status_code == 401
    for _ in range(MAX_PER_CLIENT + 1):
        assert (await right(anonymous, member)).status_code == 200
    age(server, 900)
    await guess(anonymous, new_email())
    assert count(server) == 3  # what has drained is removed


@pytest.mark.usefixtures("free_guesses")
async def test_a_client_is_slowed_down_after_fifty(anonymous: AsyncClient) -> None:
    for _ in range(MAX_PER_CLIENT):
        assert (await guess(anonymous, new_email())).status_code == 401
    assert is_refusal(await guess(anonymous, new_email()), most=2)
    # What comes before the ingress's entry is the caller's own invention.
    assert is_refusal(await guess(anonymous, new_email(), f"{OTHER}, {GUESSER}"), most=2)
    assert (await guess(anonymous, new_email(), f"{GUESSER}, {OTHER}")).status_code == 401


@pytest.mark.usefixtures("free_guesses")
async def test_the_address_of_a_nat_is_not_everybodys(anonymous: AsyncClient) -> None:
    for _ in range(MAX_PER_CLIENT + 5):
        assert (await guess(anonymous, new_email(), NAT)).status_code == 401
    member = await sign_up(anonymous)
    assert (await right(anonymous, member, NAT)).status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "counted", "shared"),
    [
        (GUESSER, GUESSER, False),
        (f"{OTHER} , {GUESSER} ", GUESSER, False),
        ("2a00:1450:4001:1::3", "2a00:1450:4001:1::/64", False),
        ("2a00:1450:4001:1:ffff::", "2a00:1450:4001:1::/64", False),
        (NAT, NAT, True),
        ("10.244.0.1", "10.244.0.1", True),
        ("fd00::1", "fd00::/64", True),
        ("", "127.0.0.1", True),
        (f"{OTHER}, nonsense", "127.0.0.1", True),
    ],
)
async def test_whom_an_attempt_is_counted_to(
    anonymous: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    forwarded: str,
    counted: str,
    shared: bool,
) -> None:
    seen: list[str] = []

    def remember(address: str) -> bool:
        seen.append(address)
        return is_shared(address)

    monkeypatch.setattr("app.users.service.is_shared", remember)
    await guess(anonymous, new_email(), forwarded)
    assert seen == [counted]
    assert is_shared(counted) is shared


async def test_many_at_once_are_no_way_around(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    answers = await asyncio.gather(*(guess(anonymous, member.email) for _ in range(20)))
    # A busy machine may refuse some with 503; none of those had its password looked at.
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) <= MAX_PER_ACCOUNT_AND_CLIENT
    assert set(statuses) <= {401, 429, 503}
    # And those that were let through did count: a few more, and the account is closed.
    for _ in range(MAX_PER_ACCOUNT_AND_CLIENT - statuses.count(401)):
        assert (await guess(anonymous, member.email)).status_code in {401, 429}
    assert is_refusal(await guess(anonymous, member.email))


def test_two_replicas_count_together(server: Postgres) -> None:
    """Two processes, as two pods are."""
    server.execute("TRUNCATE limits")
    url = server.url()
    with (
        running(DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET) as (_, first),
        running(DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET) as (_, second),
    ):
        wait_until_ready(first)
        wait_until_ready(second)
        body = credentials(new_email())
        token = httpx.post(f"{first}/users", json=body).json()["token"]
        wrong = body | {"password": "wrong password"}
        answers = [
            httpx.post(f"{replica}/session", json=wrong)
            for replica in (first, second, second, first, second, first, second)
        ]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
        assert httpx.post(f"{first}/session", json=body).status_code == 429
        # So do sessions: made here, good there, ended there, ended here.
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{second}/me", headers=bearer).status_code == 200
        assert httpx.delete(f"{second}/session", headers=bearer).status_code == 204
        assert httpx.get(f"{first}/me", headers=bearer).status_code == 401


async def test_those_who_count_at_once_refuse_nobody(server: Postgres) -> None:
    database = Database(server.url())
    await database.open()

    async def count(bucket: Bucket) -> int:
        async with database.connection() as conn:
            return await limits.take(conn, bucket)

    try:
        for number in range(30):
            bucket = Bucket(f"at once {number}", 100, 900)
            assert await asyncio.gather(*(count(bucket) for _ in range(5))) == [0] * 5
    finally:
        await database.close()
