"""Fixtures: the application over real HTTP, with a scripted upstream."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx
import pytest

from tests.assistant.support import Application, new_user, serving
from tests.openai_server import OpenAIServer, by_keywords
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def upstream_server() -> Iterator[OpenAIServer]:
    with OpenAIServer(by_keywords) as upstream:
        yield upstream


@pytest.fixture
def upstream(upstream_server: OpenAIServer, patient: None) -> OpenAIServer:
    _ = patient  # before any application
    upstream_server.script()
    upstream_server.brain = by_keywords
    return upstream_server


@pytest.fixture
async def application(server: Postgres, upstream: OpenAIServer) -> AsyncIterator[Application]:
    async with serving(server.url(), upstream.url) as application:
        yield application


@pytest.fixture
def user(server: Postgres) -> UUID:
    return new_user(server)


@pytest.fixture
async def client(application: Application, user: UUID) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in as a new user."""
    async with application.client(user) as client:
        yield client
