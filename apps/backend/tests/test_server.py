"""The server process as the image starts it."""

import json
import signal
import socket
import time

import httpx
import pytest

from app.users.credential import COOKIE
from app.users.repository import LOCAL_USER_ID
from tests.accounts import credentials, new_email
from tests.conftest import AUTH_SECRET, bearer
from tests.postgres import PASSWORD, Postgres
from tests.processes import running, wait_until_ready


def test_it_serves_logs_as_json_and_ends_in_order(server: Postgres) -> None:
    with running(DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET) as (process, url):
        wait_until_ready(url)
        answer = httpx.get(
            f"{url}/todos?secret=query", headers=bearer(LOCAL_USER_ID) | {"X-Request-ID": "trace-7"}
        )
        assert answer.status_code == 200
        assert "server" not in answer.headers
        body = credentials(new_email())
        made = httpx.post(f"{url}/users", json=body)
        httpx.post(f"{url}/session", json=body | {"password": "not-a-secret but wrong"})
        httpx.get(f"{url}/me", headers={"Cookie": f"{COOKIE}={made.json()['token']}"})
        httpx.get(f"{url}/nothing")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""
    lines = [json.loads(line) for line in output.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    access = [line for line in lines if line["logger"] == "app.access"]
    served = [line for line in access if line["status"] != 503]
    assert [(line["path"].removeprefix("/api/v1"), line["status"]) for line in served] == [
        # Probes that succeed are not worth a line.
        ("/todos", 200), ("/users", 201), ("/session", 401), ("/me", 200), ("/nothing", 404),
    ]  # fmt: skip
    assert served[0]["request_id"] == "trace-7"
    assert served[0]["duration_ms"] > 0
    assert lines[-1]["message"] == "stopped"
    session = made.json()["token"]
    for secret in (
        PASSWORD, AUTH_SECRET, server.url(), "secret=query", "not-a-secret", session,
        session.rpartition(".")[2], body["email"],
    ):  # fmt: skip
        assert secret not in output


def test_a_request_in_flight_is_answered_before_the_end(server: Postgres) -> None:
    with running(DATABASE_URL=server.url(), AUTH_SECRET=AUTH_SECRET) as (process, url):
        wait_until_ready(url)
        host, port = url.removeprefix("http://").split("/")[0].split(":")
        body = b'{"title": "in flight"}'
        with socket.create_connection((host, int(port))) as client:
            head = (
                "POST /api/v1/todos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                "Expect: 100-continue\r\n"
                f"Content-Length: {len(body)}\r\n"
                f"Authorization: {bearer(LOCAL_USER_ID)['Authorization']}\r\n\r\n"
            )
            client.sendall(head.encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 100 ")  # it waits for the body
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            client.sendall(body)
            assert client.recv(4096).startswith(b"HTTP/1.1 201 ")
        process.communicate()
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "code", "told"),
    [
        ("AUTH_SECRET", "too-short", 2, "cannot start: AUTH_SECRET is shorter than 32"),
        ("PORT", "http", 2, "cannot start: PORT is not a port number: http"),
        ("HOST", "203.0.113.1", 3, "cannot listen on 203.0.113.1, port "),
    ],
)
def test_it_refuses_to_start_in_one_line(variable: str, value: str, code: int, told: str) -> None:
    settings = {"DATABASE_URL": "postgresql://h/d", "AUTH_SECRET": AUTH_SECRET, variable: value}
    with running(None, "app", **settings) as (process, _):
        output, errors = process.communicate()
    assert (process.returncode, output) == (code, "")
    assert errors.startswith(f"todo-backend {told}")
    assert errors.count("\n") == 1
