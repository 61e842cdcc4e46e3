"""Helpers for tests of the assistant: the application over HTTP, and a reader of its streams."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from tests.conftest import bearer, settings
from tests.postgres import Postgres

KEY = "not-a-secret-key-of-the-tests"

Event = tuple[str, dict[str, Any]]


@dataclass
class Application:
    """A replica that serves on loopback."""

    app: FastAPI
    url: str

    def client(self, user: UUID) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1",
            headers=bearer(user),
            verify=False,  # without TLS; reading all authorities takes longer than many a test
        )

    @property
    def connections_out(self) -> int:
        """Database connections that somebody holds."""
        stats = self.app.state.database._pool.get_stats()
        return int(stats.get("pool_size", 0) - stats.get("pool_available", 0))


@asynccontextmanager
async def serving(database: str, upstream: str, **changes: Any) -> AsyncIterator[Application]:
    given = {"openai_api_key": KEY, "openai_base_url": upstream, "openai_model": "scripted"}
    app = create_app(settings(database, **(given | changes)))
    # asyncio turns Nagle's algorithm off only where it sees that this is TCP, as in production;
    # otherwise most answers would be 40 ms late.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        try:
            yield Application(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await task


def new_user(server: Postgres, database: str = "postgres") -> UUID:
    user = uuid4()
    values = f"'{user}', '{user}@todo.invalid'"
    server.execute(f"INSERT INTO users (id, email) VALUES ({values})", database)
    return user


def lease_until(database: str, user: UUID) -> datetime:
    """When the user's lease expires; now, if there is none."""
    with psycopg.connect(database) as conn:
        query = "SELECT coalesce(max(expires_at), now()) FROM assistant_leases WHERE user_id = %s"
        row: tuple[datetime] | None = conn.execute(query, [user]).fetchone()
    assert row is not None
    return row[0]


def read(stream: str) -> list[Event]:
    """The events, strictly: each is a name and one line of JSON; comments are left out."""
    events = []
    for block in stream.split("\n\n")[:-1]:
        lines = block.split("\n")
        if block.startswith(":"):
            assert lines == [": keep-alive"]
            continue
        assert len(lines) == 2, block
        assert lines[0].startswith("event: ")
        assert lines[1].startswith("data: ")
        events.append((lines[0].removeprefix("event: "), json.loads(lines[1][6:])))
    assert stream.endswith("\n\n")
    return events


async def ask(client: httpx.AsyncClient, message: str, **others: bool) -> list[Event]:
    answer = await client.post("/assistant", json={"message": message} | others)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return read(answer.text)


async def confirm(client: httpx.AsyncClient, confirmation: str, *, approve: bool) -> list[Event]:
    answer = await client.post(
        f"/assistant/confirmations/{confirmation}", json={"approve": approve}
    )
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def text(events: list[Event]) -> str:
    return "".join(data["delta"] for name, data in events if name == "text")


def named(events: list[Event], name: str) -> list[dict[str, Any]]:
    return [data for event, data in events if event == name]


async def add(client: httpx.AsyncClient, *titles: str) -> list[str]:
    """Adds todos, gives their IDs."""
    answers = [await client.post("/todos", json={"title": title}) for title in titles]
    return [answer.json()["id"] for answer in answers]


async def titles(client: httpx.AsyncClient) -> list[str]:
    return [todo["title"] for todo in (await client.get("/todos")).json()]


async def history(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    messages = (await client.get("/assistant")).json()["messages"]
    return [(message["role"], message["text"]) for message in messages]
