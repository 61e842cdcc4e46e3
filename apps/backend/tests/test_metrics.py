"""The metrics for Prometheus, their port, and that no caller can add series."""

import re
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from app.core.metrics import Metrics, MetricsServer
from app.main import create_app
from app.users.repository import LOCAL_USER_ID
from tests.conftest import AUTH_SECRET, bearer, client_of, settings
from tests.postgres import Postgres, free_port
from tests.processes import running, wait_for, wait_until_ready
from tests.waiting import known

pytestmark = pytest.mark.anyio

type Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(text: str) -> Figures:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def app(server: Postgres) -> FastAPI:
    server.execute("TRUNCATE todos")
    return create_app(settings(server.url()))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.headers.update(bearer(LOCAL_USER_ID))
        yield client


def told(app: FastAPI) -> Figures:
    """Returns the metrics over HTTP, like Prometheus."""
    port = free_port()
    server = MetricsServer(app.state.metrics, "127.0.0.1", port)
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
    finally:
        server.close()
    assert answer.headers["content-type"].startswith("text/plain")
    return figures(answer.text)


async def test_requests_are_counted_by_route_method_and_status(
    app: FastAPI, client: AsyncClient
) -> None:
    todo = (await client.post("/todos", json={"title": "x"})).json()
    for _ in range(2):
        await client.get(f"/todos/{todo['id']}")
    await client.get("/todos/0a0a0a0a-0000-4000-8000-000000000000")
    await client.post("/todos", json={})
    await client.put("/todos")
    seen = told(app)
    item = "/api/v1/todos/{todo_id}"
    for route, method, status, count in (
        ("/api/v1/todos", "POST", "201", 1),
        ("/api/v1/todos", "POST", "422", 1),
        ("/api/v1/todos", "PUT", "405", 1),
        (item, "GET", "200", 2),
        (item, "GET", "404", 1),
    ):
        name = key("todo_http_requests_total", route=route, method=method, status=status)
        assert seen[name] == count, name
    took = key("todo_http_request_duration_seconds_count", route=item, method="GET")
    assert seen[took] == 3
    assert seen[key("todo_http_requests_in_progress")] == 0
    assert seen[key("todo_build_info", version=__version__, environment="test")] == 1
    assert seen[key("process_open_fds")] > 0


async def test_no_caller_can_make_it_grow(app: FastAPI, client: AsyncClient) -> None:
    async def ask(number: int) -> None:
        await client.request(f"METHOD{number}", f"/todos/{number}")
        await client.get(f"/{number}/{number}")
        await client.get(f"/todos/{number}?n={number}", headers={"X-Request-ID": str(number)})
        await client.get("/todos", headers={"Host": f"h{number}.example"})

    for number in range(3):
        await ask(number)
    before = told(app).keys()
    for number in range(3, 60):
        await ask(number)
    assert told(app).keys() == before
    assert {dict(labels)["method"] for name, labels in before if "requests_total" in name} == {
        "GET", "other",
    }  # fmt: skip


async def test_the_pool_and_the_database_are_told(app: FastAPI, client: AsyncClient) -> None:
    await client.get("/todos")
    seen = told(app)
    assert seen[key("todo_database_pool_connections", state="idle")] == 1
    assert seen[key("todo_database_pool_connections", state="busy")] == 0
    assert seen[key("todo_database_pool_connections_max")] == 5
    assert seen[key("todo_database_pool_waiting")] == 0
    assert seen[key("todo_database_state", state="ok")] == 1
    assert seen[key("todo_database_state", state="unavailable")] == 0


async def test_an_outage_is_told() -> None:
    app = create_app(settings("postgresql://nobody@127.0.0.1:1/none"))
    async with app.router.lifespan_context(app), client_of(app) as client:
        await known(client, 3)
        seen = told(app)
    assert seen[key("todo_database_state", state="unavailable")] == 1
    assert seen[key("todo_database_state", state="ok")] == 0


async def test_an_unexpected_error_is_counted(
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("app.todos.service.list_callers_todos", broken)
    await client.get("/todos")
    name = key("todo_http_requests_total", route="/api/v1/todos", method="GET", status="500")
    assert told(app)[name] == 1


def test_the_port_of_the_api_does_not_tell(server: Postgres) -> None:
    port = free_port()
    with running(DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET, METRICS_PORT=str(port)) as (
        _,
        url,
    ):
        wait_until_ready(url)
        wait_for(f"{url}/todos", 401)
        assert "todo_database_state" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        root = url.removesuffix("/api/v1")
        for path in ("/metrics", "/api/metrics", "/api/v1/metrics", "/metrics/"):
            answer = httpx.get(root + path)
            assert answer.status_code == 404, path
            assert "todo_database" not in answer.text


def test_a_port_that_is_taken_is_named(server: Postgres) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(
            DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET, METRICS_PORT=str(port)
        ) as (process, _):
            output, errors = process.communicate()
    assert process.returncode == 3, output
    assert re.search(rf"cannot listen on port {port}: .*; set METRICS_PORT", errors)


def test_two_applications_do_not_share_figures() -> None:
    Metrics("1", "a")
    Metrics("1", "b")
