"""How often a password may be guessed: the same for all replicas, because Postgres counts."""

import asyncio

import httpx
import psycopg
import pytest
from httpx import AsyncClient, Response

from app.users.attempts import MAX_PER_ACCOUNT, MAX_PER_CLIENT
from app.users.passwords import Passwords
from tests.accounts import Member, credentials, new_email, sign_up
from tests.conftest import AUTH_SECRET
from tests.postgres import Postgres
from tests.processes import running, wait_until_ready

pytestmark = pytest.mark.anyio


@pytest.fixture
def free_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every password is wrong, without Argon2: these tests count, and time is not their subject."""

    async def wrong(self: Passwords, stored: str | None, password: str) -> bool:  # noqa: ARG001
        return False

    monkeypatch.setattr(Passwords, "verify", wrong)


async def guess(client: AsyncClient, email: str, address: str = "192.0.2.1") -> Response:
    return await client.post(
        "/session",
        json=credentials(email, "wrong password"),
        headers={"X-Forwarded-For": address},
    )


async def right(client: AsyncClient, member: Member) -> Response:
    return await client.post("/session", json=credentials(member.email))


def is_refusal(answer: Response) -> bool:
    return (
        answer.status_code == 429
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["code"] == "too-many-attempts"
        and 0 < int(answer.headers["retry-after"]) <= 900
        and f"{answer.headers['retry-after']} s" in answer.json()["detail"]
    )


def age(server: Postgres, seconds: int) -> None:
    server.execute(f"UPDATE sign_in_failures SET failed_at = failed_at - interval '{seconds} s'")


def count(server: Postgres) -> int:
    with psycopg.connect(server.url()) as conn:
        row = conn.execute("SELECT count(*) FROM sign_in_failures").fetchone()
    assert row is not None
    return int(row[0])


async def test_an_account_is_closed_after_five(server: Postgres, anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    for _ in range(MAX_PER_ACCOUNT):
        assert (await guess(anonymous, member.email)).status_code == 401
    assert is_refusal(await guess(anonymous, member.email))
    assert is_refusal(await right(anonymous, member))  # or guessing on would still pay
    assert is_refusal(await guess(anonymous, member.email.upper(), "198.51.100.7"))
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200
    other = await sign_up(anonymous)
    assert (await right(anonymous, other)).status_code == 200
    age(server, 890)
    refused = await right(anonymous, member)
    assert is_refusal(refused)
    assert int(refused.headers["retry-after"]) <= 10
    age(server, 10)
    assert (await right(anonymous, member)).status_code == 200


@pytest.mark.usefixtures("free_guesses")
async def test_an_unknown_address_is_treated_the_same(anonymous: AsyncClient) -> None:
    email = new_email()
    for _ in range(MAX_PER_ACCOUNT):
        assert (await guess(anonymous, email)).status_code == 401
    assert is_refusal(await guess(anonymous, email))


async def test_the_right_password_starts_anew(server: Postgres, anonymous: AsyncClient) -> None:
    member, other = await sign_up(anonymous), new_email()
    await guess(anonymous, other)
    for _ in range(2):
        for _ in range(MAX_PER_ACCOUNT - 1):
            assert (await guess(anonymous, member.email)).status_code == 401
        assert (await right(anonymous, member)).status_code == 200
        assert count(server) == 1  # the other's


@pytest.mark.usefixtures("free_guesses")
async def test_a_client_is_stopped_after_fifty(server: Postgres, anonymous: AsyncClient) -> None:
    for _ in range(MAX_PER_CLIENT):
        assert (await guess(anonymous, new_email())).status_code == 401
    assert is_refusal(await guess(anonymous, new_email()))
    # What comes before the ingress's entry is the caller's own invention.
    assert is_refusal(await guess(anonymous, new_email(), "203.0.113.9, 192.0.2.1"))
    assert (await guess(anonymous, new_email(), "192.0.2.1, 203.0.113.9")).status_code == 401
    age(server, 900)
    assert (await guess(anonymous, new_email())).status_code == 401
    assert count(server) == 1  # what is old is removed


@pytest.mark.usefixtures("free_guesses")
@pytest.mark.parametrize(
    ("forwarded", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9 , 192.0.2.1 ", "192.0.2.1"),
        ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("", "127.0.0.1"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
    ],
)
async def test_whom_an_attempt_is_counted_to(
    server: Postgres, anonymous: AsyncClient, forwarded: str, counted: str
) -> None:
    await guess(anonymous, new_email(), forwarded)
    with psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT client FROM sign_in_failures").fetchall() == [(counted,)]


async def test_many_at_once_are_no_way_around(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    answers = await asyncio.gather(*(guess(anonymous, member.email) for _ in range(20)))
    # A busy machine may refuse some with 503; none of those had its password looked at.
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) <= MAX_PER_ACCOUNT
    assert set(statuses) <= {401, 429, 503}
    # And those that were let through did count: a few more, and the account is closed.
    for _ in range(MAX_PER_ACCOUNT - statuses.count(401)):
        assert (await guess(anonymous, member.email)).status_code in {401, 429}
    assert is_refusal(await guess(anonymous, member.email))


@pytest.mark.timeout(150)
def test_two_replicas_count_together(server: Postgres) -> None:
    """Two processes, as two pods are."""
    server.execute("TRUNCATE sign_in_failures")
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
