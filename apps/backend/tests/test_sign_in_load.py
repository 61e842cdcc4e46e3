"""The cost of sign-ins for the database: round trips and connections, counted on the network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
from httpx import AsyncClient

from app.users.passwords import MAX_WAITING
from app.users.service import CONNECTIONS
from tests.accounts import credentials, new_email, sign_up
from tests.conftest import Serve
from tests.postgres import Postgres
from tests.waiting import takes_at_most

pytestmark = pytest.mark.anyio

DELAY = 0.025  # each way: a database in another region


class Wire:
    """A TCP proxy that delays; it counts connections, and what clients send on them."""

    def __init__(self) -> None:
        self.connections = self.sent = 0

    async def serve(self, upstream: int) -> asyncio.Server:
        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            answers, requests = await asyncio.open_connection("127.0.0.1", upstream)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, requests, 1))
                tasks.create_task(self._pass(answers, writer, 0))

        return await asyncio.start_server(connect, "127.0.0.1", 0)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                self.sent += count
                await asyncio.sleep(DELAY)
                writer.write(chunk)
        writer.close()


@pytest.fixture
async def wire(server: Postgres) -> AsyncIterator[tuple[Wire, str]]:
    server.execute("TRUNCATE limits")
    wire = Wire()
    async with await wire.serve(server.port) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield wire, server.url().replace(f":{server.port}/", f":{port}/")


@pytest.mark.usefixtures("patient")
async def test_a_sign_in_is_one_statement_and_one_more_if_it_is_right(
    wire: tuple[Wire, str], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.core.connections.FRESH_SECONDS", 600)  # no check of an idle connection
    counted, url = wire
    async with serve(url) as client:
        member = await sign_up(client)
        for password, trips in (("wrong password", 1), (None, 2)):
            body = credentials(member.email, password) if password else credentials(member.email)
            counted.sent = 0
            await client.post("/session", json=body)
            assert counted.sent == trips


@pytest.mark.usefixtures("patient")  # all have their turn
async def test_a_flood_of_sign_ins_leaves_connections_to_the_todos(
    wire: tuple[Wire, str], serve: Serve
) -> None:
    counted, url = wire

    async def guess(client: AsyncClient) -> int:
        return (await client.post("/session", json=credentials(new_email()))).status_code

    async with serve(url) as client:
        answers = await asyncio.gather(*(guess(client) for _ in range(MAX_WAITING + 10)))
        assert answers.count(401) == MAX_WAITING
        # Those that were one too many were sent away without asking the database.
        assert answers.count(503) == 10
        assert (
            counted.connections <= CONNECTIONS + 1
        )  # one looks at the start whether there is a database


async def test_who_waits_too_long_for_a_connection_is_told_so(
    server: Postgres, anonymous: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.users.service.WAIT_SECONDS", 0.2)
    with psycopg.connect(server.url()) as lock:
        lock.execute("LOCK TABLE limits")
        first = [
            asyncio.create_task(anonymous.post("/session", json=credentials(new_email())))
            for _ in range(CONNECTIONS)
        ]
        await asyncio.sleep(0.1)
        with takes_at_most(2):
            answer = await anonymous.post("/session", json=credentials(new_email()))
        assert (answer.status_code, answer.json()["code"]) == (503, "database-busy")
        assert int(answer.headers["retry-after"]) > 0
    assert {answer.status_code for answer in await asyncio.gather(*first)} == {401}
    assert (await anonymous.post("/session", json=credentials(new_email()))).status_code == 401
