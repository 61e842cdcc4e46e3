"""Event streams arrive without delay, and end in order."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from httpx import AsyncClient

from app.core import streams
from app.main import create_app
from tests.conftest import AUTH_SECRET, client_of, settings
from tests.processes import running, wait_for
from tests.waiting import takes_at_most

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def test_events_come_one_by_one_and_the_last_one_says_why() -> None:
    with (
        running(module="tests.endless", DATABASE_URL=NOWHERE, AUTH_SECRET=AUTH_SECRET) as (
            process,
            url,
        ),
        httpx.Client() as client,
    ):
        wait_for(f"{url}/me", 401)  # /health answers while the application starts
        with client.stream("GET", f"{url}/stream") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            parts = answer.iter_raw()
            for number in range(3):
                assert next(parts) == f"event: text\ndata: {number}\n\n".encode()
            process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            with takes_at_most(streams.STREAM_SECONDS + 3):
                rest = b"".join(parts).decode()
        assert time.monotonic() - told > streams.STREAM_SECONDS - 1
        assert rest.startswith("event: text\ndata: 3\n\n")  # it went on until its time was over
        last = rest.strip().split("\n\n")[-1].splitlines()
        assert last[0] == "event: error"
        problem = json.loads(last[1].removeprefix("data: "))
        assert (problem["status"], problem["code"]) == (503, "shutting-down")
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert '"exception"' not in output


pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> FastAPI:
    return create_app(settings(NOWHERE))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


async def test_a_stream_that_ends_in_time_ends_by_itself(
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAM_SECONDS", 60)

    async def events() -> AsyncIterator[bytes]:
        yield b"event: text\ndata: 1\n\n"
        app.state.shutdown.begin()
        await app.state.shutdown.wait()
        assert app.state.shutdown.begun
        yield b"event: done\ndata: {}\n\n"

    @app.get("/api/v1/short")
    async def short() -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    answer = await client.get("/short")
    assert answer.text.endswith("event: done\ndata: {}\n\n")


async def test_what_is_no_event_stream_is_left_alone(
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAM_SECONDS", 0)

    @app.get("/api/v1/slow")
    async def slow() -> dict[str, str]:
        app.state.shutdown.begin()
        await asyncio.sleep(0.2)
        return {"all": "there"}

    assert (await client.get("/slow")).json() == {"all": "there"}


async def test_a_client_that_goes_away_is_no_error(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/api/v1/waiting")
    async def waiting() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b": 1\n\n"
            await asyncio.sleep(30)

        return StreamingResponse(events(), media_type="text/event-stream")

    async with app.router.lifespan_context(app), client_of(app) as client:
        asking = asyncio.create_task(client.get("/waiting"))
        await asyncio.sleep(0.2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert "unexpected error" not in caplog.text
