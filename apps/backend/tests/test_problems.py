"""Every error is a problem, and every answer names its request and pod."""

import socket
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from httpx import AsyncClient

from app.core.problems import MAX_BODY_BYTES
from app.main import create_app
from tests.conftest import client_of, settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> FastAPI:
    return create_app(settings("postgresql://nobody@127.0.0.1:1/none"))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/nothing", "/todos/", "/docs", "/todos/1/2", "/%00"])
async def test_an_unknown_path_is_a_problem(client: AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "about:blank"
    assert problem["title"] == "Not Found"
    assert problem["code"] == "not-found"
    assert problem["instance"].startswith("/api/v1")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/todos", "DELETE, GET, HEAD, PATCH, POST"),
        ("OPTIONS", "/todos", "DELETE, GET, HEAD, PATCH, POST"),
        ("POST", "/todos/1", "DELETE, GET, HEAD, PATCH"),
        ("HEAD", "/session", "DELETE, POST"),
        ("DELETE", "/health", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
        ("POST", "/openapi.json", "GET"),
    ],
)
async def test_a_method_that_is_not_allowed(
    client: AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    if method != "HEAD":
        assert answer.json()["code"] == "method-not-allowed"
        assert allowed in answer.json()["detail"]


async def test_an_unexpected_error_tells_nothing_but_its_id(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/api/v1/broken")
    async def broken() -> None:
        raise RuntimeError("inner secrets")

    answer = await client.get("/broken", headers={"X-Request-ID": "trace-1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal-error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "trace-1"
    assert "inner" not in answer.text
    assert "inner secrets" in caplog.text


async def test_an_answer_that_breaks_midway_is_cut_off(app: FastAPI, client: AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError

    @app.get("/api/v1/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    answer = await client.get("/stream")
    assert answer.content == b"first"
    assert "internal-error" not in answer.text


async def test_a_body_that_is_too_large(client: AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    json = {"Content-Type": "application/json"}
    for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
        answer = await client.post("/todos", content=content, headers=json)
        assert answer.status_code == 413
        assert answer.json()["code"] == "body-too-large"
        assert str(MAX_BODY_BYTES) in answer.json()["detail"]


async def test_every_answer_names_pod_and_request(client: AsyncClient) -> None:
    for path in ("/nothing", "/openapi.json"):
        answer = await client.get(path, headers={"X-Request-ID": "abc-123"})
        assert answer.headers["x-served-by"] == f"todo-backend/{socket.gethostname()}"
        assert answer.headers["x-request-id"] == "abc-123"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("given", ["", "two words", 'quote"', "x" * 129, "ü"])
async def test_a_request_id_that_is_unsafe_is_replaced(client: AsyncClient, given: str) -> None:
    headers = {b"X-Request-ID": given.encode()}
    answer = await client.get("/openapi.json", headers=headers)
    assert len(answer.headers["x-request-id"]) == 32


async def test_openapi_describes_problems_as_they_are(client: AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path in document["paths"].values():
        for operation in path.values():
            assert any(status.startswith("2") for status in operation["responses"])
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
    update = document["components"]["schemas"]["TodoUpdate"]
    assert "required" not in update
    assert all("default" not in field for field in update["properties"].values())
