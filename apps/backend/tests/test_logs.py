"""No log contains a secret or a token, also after errors."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import psycopg
import pydantic
import pytest

from app.core.logging import JsonFormatter, configure_logging
from app.core.tracebacks import describe, format_error
from app.users.repository import LOCAL_USER_ID
from tests.conftest import AUTH_SECRET, bearer
from tests.postgres import PASSWORD, Postgres
from tests.processes import running, wait_until_ready

KEY = "not-a-secret-canary-of-the-assistant"
OPENAIS = "sk-" + "0123456789abcdef"  # what a key of theirs looks like
USERS_PASSWORD = "not-a-secret-canary-word"
QUERY = "not-a-secret-canary-query"
COOKIE = "not-a-secret-canary-cookie"
BEARER = bearer(LOCAL_USER_ID)["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def broken(server: Postgres) -> Iterator[str]:
    """A database in which every listing of todos fails unexpectedly."""
    server.execute("DROP DATABASE IF EXISTS broken")
    server.execute("CREATE DATABASE broken TEMPLATE template0")
    url = server.url("broken")
    environment = {"DATABASE_URL": url, "AUTH_SECRET": AUTH_SECRET}
    subprocess.run([sys.executable, "-m", "app.migrate"], env=environment, check=True)
    server.execute("ALTER TABLE todos DROP COLUMN title", "broken")
    yield url
    server.execute("DROP DATABASE broken WITH (FORCE)")


def test_nothing_secret_is_logged_at_any_level(server: Postgres, broken: str) -> None:
    with running(
        DATABASE_URL=broken, AUTH_SECRET=AUTH_SECRET, OPENAI_API_KEY=KEY, LOG_LEVEL="DEBUG"
    ) as (process, url):
        wait_until_ready(url)
        credentials = {"email": "canary@todo.invalid", "password": USERS_PASSWORD}
        authorization = {"Authorization": f"Bearer {BEARER}"}
        with httpx.Client(base_url=url) as client:
            signed_up = client.post("/users", json=credentials)
            assert signed_up.status_code == 201, signed_up.text
            token = signed_up.json()["token"]
            client.cookies.clear()
            client.post("/session", json=credentials)
            client.cookies.clear()
            client.post("/session", json=credentials | {"password": USERS_PASSWORD + "!"})
            client.post("/users", json={"email": 1, "password": USERS_PASSWORD})
            client.get("/me", headers={"Cookie": f"todo_session={COOKIE}"})
            client.get("/me", headers={"Cookie": f"todo_session={token}"})
            client.get("/me", headers={"X-Request-ID": f"Bearer {token}"})
            client.get(f"/todos?search={QUERY}")
            answer = client.get(f"/todos?after={QUERY}", headers=authorization)
            assert answer.status_code == 422
            answer = client.get("/todos", headers=authorization | {"X-Request-ID": "trace-9"})
            assert answer.status_code == 500
        server.execute("ALTER DATABASE broken ALLOW_CONNECTIONS false")
        server.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE datname = 'broken' AND pid <> pg_backend_pid()"
        )
        assert httpx.get(f"{url}/todos", headers=authorization).status_code == 503
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
    assert errors == ""
    lines = [json.loads(line) for line in output.splitlines()]
    failed = [line for line in lines if "exception" in line]
    assert [line["request_id"] for line in failed] == ["trace-9"]
    assert "UndefinedColumn" in failed[0]["exception"]
    for secret in (
        broken, PASSWORD, quote(PASSWORD, safe=""), json.dumps(PASSWORD)[1:-1], AUTH_SECRET, KEY,
        USERS_PASSWORD, QUERY, COOKIE, BEARER, token, token.rsplit(".", 1)[1],
    ):  # fmt: skip
        assert secret not in output, secret


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("cannot use postgresql://me:hidden@db.lan/x", "cannot use postgresql://me:***@db.lan/x"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        (f"token {BEARER}", "token ***"),
        (f"key {OPENAIS} refused", "key *** refused"),
        ('{"password": "hid den"}', '{"password": ***}'),
        ("{'api_key': 'hid den', 'n': 1}", "{'api_key': ***, 'n': 1}"),
        ("Cookie: a=1; todo_session=hidden; b=2", "Cookie: a=1; todo_session=***; b=2"),
        ("conninfo password=hidden host=x", "conninfo password=*** host=x"),
        ("wrong password: connection failed", "wrong password: connection failed"),
        ("GET http://127.0.0.1:8000/api/v1/todos", "GET http://127.0.0.1:8000/api/v1/todos"),
        ("starts at 12:00 with a@b.example", "starts at 12:00 with a@b.example"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, logged: str) -> None:
    assert JsonFormatter().mask(text) == logged


@pytest.mark.parametrize("secret", [PASSWORD, 'quo"te', "back\\slash", "ümläut", "new\nline"])
def test_a_known_secret_is_masked_in_every_form(secret: str) -> None:
    formatter = JsonFormatter([secret])
    for form in (secret, quote(secret), quote(secret, safe=""), repr(secret), json.dumps(secret)):
        record = logging.makeLogRecord(
            {"msg": f"<{form}>", "fields": {"deep": [{form: (form, 5)}]}}
        )
        line = formatter.format(record)
        entry = json.loads(line)
        assert secret not in line
        assert json.dumps(secret)[1:-1] not in line
        assert entry["message"].replace('"', "").replace("'", "") == "<***>"
        assert entry["deep"][0].popitem()[1][1] == 5


class Secretive(pydantic.BaseModel):
    password: int


def throw(error: Exception) -> None:
    raise error


def raised(error: Exception) -> Exception:
    """With a traceback."""
    with pytest.raises(type(error)) as caught:
        throw(error)
    return caught.value


def test_tracebacks_quote_no_values(server: Postgres) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        Secretive.model_validate({"password": USERS_PASSWORD})
    text = format_error(refused.value)
    assert text.endswith("ValidationError: password (int_parsing)")
    assert USERS_PASSWORD not in text
    with pytest.raises(psycopg.IntegrityError) as taken:
        server.execute("INSERT INTO users (email) VALUES ('local@todo.invalid')")
    assert describe(taken.value).startswith("psycopg.errors.UniqueViolation: duplicate key")
    assert "local@todo.invalid" in str(taken.value)
    assert "local@todo.invalid" not in describe(taken.value)


def test_tracebacks_tell_the_whole_chain() -> None:
    def fail() -> None:
        try:
            throw(KeyError("first"))
        except KeyError as error:
            raise RuntimeError("second") from error

    def fail_again() -> None:
        try:
            fail()
        except RuntimeError:
            raise ExceptionGroup("third", [raised(ValueError("inner"))])  # noqa: B904

    with pytest.raises(ExceptionGroup) as group:
        fail_again()
    text = format_error(group.value)
    places = [text.index(part) for part in (
        "KeyError: 'first'", "direct cause", "RuntimeError: second", "while that was handled",
        "ExceptionGroup: third", "number 1", "ValueError: inner",
    )]  # fmt: skip
    assert places == sorted(places)
    assert 'in fail\n    throw(KeyError("first"))' in text
    assert describe(RuntimeError()) == "RuntimeError"


@pytest.mark.usefixtures("keep_logging")
def test_an_error_that_nobody_catches_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", ["not-a-secret-canary"])
    error = raised(RuntimeError("it was not-a-secret-canary"))
    sys.excepthook(type(error), error, error.__traceback__)
    entry = json.loads(capsys.readouterr().out)
    assert (entry["level"], entry["message"]) == ("critical", "uncaught error")
    assert entry["exception"].endswith("RuntimeError: it was ***")


@pytest.mark.usefixtures("keep_logging")
def test_clients_of_other_services_are_kept_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", [])
    for name in ("httpx", "httpcore.connection", "openai._base_client", "psycopg.pool"):
        logging.getLogger(name).info("headers and bodies")
    assert capsys.readouterr().out == ""
