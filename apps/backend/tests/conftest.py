import faulthandler
import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from app import migrate
from app.core.logging import QUIETER
from app.core.openapi import describe
from app.core.settings import Settings
from app.main import create_app
from app.users.repository import LOCAL_USER_ID
from app.users.tokens import Tokens
from tests.neon import Certificates, Direct, Pooler
from tests.postgres import Postgres
from tests.waiting import Bound

AUTH_SECRET = "2f7f1f3f8f0d4c5e9b6a7d8c1e2f3a4b"
# The assistant is on, and its provider cannot be reached.
UPSTREAM = {"openai_api_key": "not-a-secret-key", "openai_base_url": "http://127.0.0.1:1/v1"}

NewServer = Callable[[], Postgres]


class Serve(Protocol):
    def __call__(self, url: str) -> AbstractAsyncContextManager[AsyncClient]: ...


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """A test's limit counts seconds of the machine, and at most half an hour."""
    bound = Bound(settings.timeout)
    started = time.monotonic()

    def look(*_: object) -> None:
        # Set again first: the application may swallow the failure.
        signal.setitimer(signal.ITIMER_REAL, max(bound.left, 1))
        if bound.left <= 0 or time.monotonic() > started + 1800:
            faulthandler.dump_traceback()
            pytest.fail(f"not within {settings.timeout} s: {item.nodeid}")

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


def pytest_timeout_cancel_timer() -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    return True


@pytest.fixture(scope="session", autouse=True)
def without_limits() -> Iterator[None]:
    """The test's limit also bounds its requests and the closing of a pool."""
    for part in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.core.db.CLOSE_SECONDS", 60)
        yield


@pytest.fixture(scope="session", autouse=True)
def described_once() -> Iterator[None]:
    """Applications of the same routes share a document: making it takes longer than most tests."""
    made: dict[tuple[str, ...], dict[str, Any]] = {}

    def once(app: FastAPI, schemes: dict[str, Any]) -> dict[str, Any]:
        routes = tuple(str(getattr(route, "path", route.__class__)) for route in app.routes)
        if routes not in made:
            made[routes] = describe(app, schemes)
        return made[routes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.main.describe", once)
        yield


@pytest.fixture(scope="session")
def new_server() -> Iterator[NewServer]:
    """Makes servers that are stopped at the end, whatever a test did to them."""
    servers: list[Postgres] = []
    # Not pytest's tmp_path: its folders are closed to the other user that runs the server.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)

        def new() -> Postgres:
            servers.append(Postgres(Path(directory) / str(len(servers))))
            return servers[-1]

        yield new
        for server in servers:
            if server.runs:
                server.thaw()
                server.stop()


@pytest.fixture(scope="session")
def server(new_server: NewServer) -> Postgres:
    server = new_server()
    server.start()
    migrate.run(server.url())
    return server


@pytest.fixture(scope="session")
def serve() -> Serve:
    """The application with a client that is signed in as the user of every database."""

    @asynccontextmanager
    async def serving(url: str) -> AsyncIterator[AsyncClient]:
        app = create_app(settings(url))
        async with app.router.lifespan_context(app), client_of(app) as client:
            client.headers.update(bearer(LOCAL_USER_ID))
            yield client

    return serving


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of anything but the application's own limits, which a busy machine exceeds."""
    for limit in (
        "core.db.WAIT_SECONDS", "core.db.WORK_SECONDS", "core.db.CONNECT_SECONDS",
        "core.connections.CHECK_SECONDS", "users.service.WAIT_SECONDS",
        "assistant.lease.PATIENCE_SECONDS", "assistant.stream.FIRST_SECONDS",
    ):  # fmt: skip
        monkeypatch.setattr(f"app.{limit}", 60)


@pytest.fixture
async def client(server: Postgres, serve: Serve, patient: None) -> AsyncIterator[AsyncClient]:
    """Signed in as the local user, with nothing left of the test before."""
    _ = patient  # before the application
    server.execute("TRUNCATE todos, idempotency_keys, limits")
    async with serve(server.url()) as client:
        yield client


@pytest.fixture
def anonymous(client: AsyncClient) -> AsyncClient:
    """The same application, asked by nobody in particular."""
    del client.headers["Authorization"]
    return client


@pytest.fixture(scope="session")
def certificates(neon_directory: Path) -> Certificates:
    return Certificates(neon_directory / "certificates")


@pytest.fixture(scope="session")
def neon_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def direct(neon_directory: Path, certificates: Certificates) -> Iterator[Direct]:
    server = Direct(neon_directory / "postgres", certificates)
    server.start()
    server.make_owner()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pooler(neon_directory: Path, direct: Direct, certificates: Certificates) -> Iterator[Pooler]:
    with Pooler(neon_directory / "pgbouncer", direct, certificates) as pooler:
        yield pooler


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch, direct: Direct) -> None:
    """Neon's names lead to this machine; the URLs stay as Neon prints them."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(direct.port))


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch, pooler: Pooler, resolve: None) -> Pooler:
    _ = resolve  # before this
    monkeypatch.setenv("PGPORT", str(pooler.port))
    return pooler


@pytest.fixture
def keep_logging() -> Iterator[None]:
    """For tests of entry points, which configure logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in QUIETER:
        logging.getLogger(name).setLevel(logging.NOTSET)


def bearer(user: UUID) -> dict[str, str]:
    """Signed in without a password, which most tests have no use for."""
    return {"Authorization": f"Bearer {Tokens(AUTH_SECRET).issue(user)[0]}"}


def settings(url: str, **changes: object) -> Settings:
    given = {"database_url": url, "auth_secret": AUTH_SECRET, "environment": "test"} | UPSTREAM
    return Settings.model_validate(given | changes)


def client_of(app: FastAPI) -> AsyncClient:
    client = AsyncClient(
        transport=ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://todo.test:8080/api/v1",
    )
    # Not a browser: a test that wants a cookie sends it.
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client
