"""Links use the address that the client used."""

import pytest
from httpx import AsyncClient

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://todo.test:8080"),
        ({"X-Forwarded-Proto": "https"}, "https://todo.test:8080"),
        ({"X-Forwarded-Host": "a.example, proxy"}, "http://a.example"),
        ({"X-Forwarded-Proto": "HTTPS,http", "X-Forwarded-Host": "[::1]:1"}, "https://[::1]:1"),
        ({"X-Forwarded-Proto": "javascript"}, "http://todo.test:8080"),
        ({"X-Forwarded-Host": "evil.example/<script>"}, "http://todo.test:8080"),
        ({"Host": "not a host"}, ""),
    ],
)
async def test_origin(client: AsyncClient, headers: dict[str, str], origin: str) -> None:
    answer = await client.post("/todos", json={"title": "x"}, headers=headers)
    assert answer.json()["url"] == f"{origin}/api/v1/todos/{answer.json()['id']}"
