"""Argon2 runs off the event loop, and its duration reveals nothing."""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
from httpx import AsyncClient

from app.core.problems import ProblemError
from app.users import passwords as module
from app.users.passwords import AT_ONCE, MAX_WAITING, Passwords
from tests.accounts import credentials, new_email, sign_up
from tests.postgres import Postgres
from tests.waiting import takes_at_most

pytestmark = pytest.mark.anyio


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_only_the_right_password_matches(passwords: Passwords) -> None:
    stored = await passwords.hash("right")
    assert await passwords.verify(stored, "right")
    assert not await passwords.verify(stored, "Right")
    assert not await passwords.verify(None, "right")


async def test_each_hash_has_its_own_salt(passwords: Passwords) -> None:
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_the_event_loop_goes_on_meanwhile(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop itself, the hash would wait for ever."""
    turned = threading.Event()
    real = module._ARGON2.hash

    class Waiting:
        @staticmethod
        def hash(password: str) -> str:
            turned.wait()
            return real(password)

    monkeypatch.setattr(module, "_ARGON2", Waiting)
    hashing = asyncio.create_task(passwords.hash("x"))
    await asyncio.sleep(0.05)
    assert not hashing.done()
    turned.set()
    assert await hashing


async def test_no_more_at_once_than_the_pod_has_memory_for(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0
    real = module._ARGON2.hash
    together = threading.Barrier(AT_ONCE)

    class Counting:
        @staticmethod
        def hash(password: str) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            together.wait()
            hashed = real(password)
            running -= 1
            return hashed

    monkeypatch.setattr(module, "_ARGON2", Counting)
    await asyncio.gather(*(passwords.hash("x") for _ in range(8)))
    assert most == AT_ONCE


async def test_too_many_are_sent_away(passwords: Passwords) -> None:
    async def admitted() -> str:
        with passwords.admit():
            return await passwords.hash("x")

    answers = await asyncio.gather(
        *(admitted() for _ in range(MAX_WAITING + 3)), return_exceptions=True
    )
    refused = [answer for answer in answers if not isinstance(answer, str)]
    assert len(refused) == 3
    for problem in refused:
        assert isinstance(problem, ProblemError)
        assert (problem.status, problem.code) == (503, "too-busy")
        assert problem.headers == {"Retry-After": "2"}
    assert await admitted()  # and over with that


async def test_one_who_goes_away_leaves_the_queue(passwords: Passwords) -> None:
    for _ in range(3):
        waiting = [asyncio.create_task(passwords.hash("x")) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    with takes_at_most(2):
        assert await passwords.hash("x")


async def test_unknown_and_wrong_get_the_same_answer_by_the_same_way(
    anonymous: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await sign_up(anonymous)
    verified: list[str] = []
    real = Passwords._matches

    def counting(self: Passwords, stored: str, password: str) -> bool:
        verified.append(stored)
        return real(self, stored, password)

    monkeypatch.setattr(Passwords, "_matches", counting)
    answers = []
    for email in (member.email, new_email(), "local@todo.invalid"):
        answer = await anonymous.post(
            "/session", json=credentials(email, "wrong password"), headers={"X-Request-ID": "same"}
        )
        answers.append((answer.status_code, answer.content, sorted(answer.headers.items())))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    # Each was one Argon2 of the same cost, for the two without a password against nobody's hash.
    assert len(verified) == 3
    assert len({stored.rpartition("$")[0].rpartition("$")[0] for stored in verified}) == 1
    assert verified[1] == verified[2] != verified[0]


async def test_unknown_and_wrong_take_the_same_time(
    server: Postgres, anonymous: AsyncClient
) -> None:
    """In processor time: waiting for a busy machine does not count.

    An unknown address without Argon2 would take a tenth of the time.
    """
    member = await sign_up(anonymous)

    async def seconds(email: str) -> float:
        server.execute("TRUNCATE limits")
        started = time.process_time()
        answer = await anonymous.post("/session", json=credentials(email, "wrong password"))
        assert answer.status_code == 401
        return time.process_time() - started

    ratios = []
    for turn in range(15):
        if turn % 2:
            wrong, unknown = await seconds(member.email), await seconds(new_email())
        else:
            unknown, wrong = await seconds(new_email()), await seconds(member.email)
        ratios.append(unknown / wrong)
    assert 0.6 < statistics.median(ratios) < 1.7
