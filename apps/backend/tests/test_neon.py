"""URLs as Neon prints them: TLS, channel binding, a pooler in transaction mode."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app import migrate
from app.core.connections import STORE
from app.core.dberrors import Kind, classify
from tests.conftest import Serve
from tests.neon import (
    DIRECT,
    OWNER_PASSWORD,
    POOLER,
    Certificates,
    Direct,
    Pooler,
    neon_url,
)
from tests.waiting import known, served

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("resolve")]


def test_these_are_the_urls_that_neon_prints() -> None:
    assert neon_url(POOLER) == (
        f"postgresql://neondb_owner:{OWNER_PASSWORD}@ep-cool-darkness-a1b2c3d4-pooler"
        ".eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require"
    )


async def test_the_direct_url_serves_with_channel_binding(serve: Serve) -> None:
    url = neon_url(DIRECT)
    migrate.migrate(url, 5)
    async with serve(url) as client:
        assert (await client.post("/todos", json={"title": "over TLS"})).status_code == 201
        assert (await client.get("/health")).json()["database"] == "ok"


def test_the_servers_certificate_can_be_verified(
    certificates: Certificates, direct: Direct
) -> None:
    verified = neon_url(DIRECT).replace("require&", "verify-full&", 1)
    verified += f"&sslrootcert={certificates.authority}"
    with psycopg.connect(verified) as conn:
        row = conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(verified.replace(DIRECT, f"other.{direct.port}.invalid"))
    assert classify(refused.value).kind is Kind.TLS_REFUSED


@pytest.mark.parametrize("is_trusted", [True, False])
def test_sslrootcert_system_is_the_store_that_the_environment_names(
    is_trusted: bool, certificates: Certificates, direct: Direct, tmp_path: Path
) -> None:
    """In a process of its own: OpenSSL keeps the store that it has read."""
    store = Path(STORE).read_text()
    extended = tmp_path / "store.pem"
    extended.write_text(store + certificates.authority.read_text() * is_trusted)
    url = neon_url(DIRECT).replace("sslmode=require", "sslmode=verify-full&sslrootcert=system")
    looked = subprocess.run(
        [sys.executable, "-m", "app.preflight", "--stdin", "--wait=0"],
        env=os.environ | {"SSL_CERT_FILE": str(extended)},
        input=url.replace(DIRECT, f"localhost:{direct.port}"),
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(looked.stdout)
    expected = (True, "", "") if is_trusted else (False, "TLS", "TLS refused")
    assert (found["ok"], found["step"], found["kind"]) == expected, found["text"]


def test_nobody_gets_in_without_tls() -> None:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(neon_url(DIRECT, "disable").replace("require", "disable"))
    assert classify(refused.value).kind is Kind.TLS_REFUSED


@pytest.mark.usefixtures("patient")
async def test_the_pooler_serves_and_migrates(pooled: Pooler, serve: Serve) -> None:
    url = pooled.url()
    migrate.migrate(url, 5)
    async with serve(url) as client:
        await client.delete("/todos")
        # More at once than the pooler has server connections: whatever one transaction left
        # behind on a connection, another one would meet.
        added = await asyncio.gather(
            *(client.post("/todos", json={"title": f"todo {n}"}) for n in range(40))
        )
        assert {answer.status_code for answer in added} == {201}
        changed = await asyncio.gather(
            *(client.patch(answer.json()["url"], json={"completed": True}) for answer in added)
        )
        assert {answer.status_code for answer in changed} == {200}
        assert len((await client.get("/todos?limit=50")).json()) == 40


def test_two_migrations_at_once_through_the_pooler(pooled: Pooler, direct: Direct) -> None:
    async def both() -> None:
        await asyncio.gather(
            *(asyncio.to_thread(migrate.migrate, pooled.url(), 10) for _ in range(2))
        )

    asyncio.run(both())
    with psycopg.connect(direct.url("neondb")) as conn:
        locks = conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert locks == (0,)


def test_pgbouncer_itself_offers_no_channel_binding(pooled: Pooler) -> None:
    """Why this one combination is simulated: at Neon the proxy before PgBouncer offers it."""
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(pooled.url("require"))
    assert classify(refused.value).kind is Kind.TLS_REFUSED


async def test_a_server_that_restarts_behind_the_pooler(
    pooled: Pooler, direct: Direct, serve: Serve
) -> None:
    async with serve(pooled.url()) as client:
        assert (await client.get("/todos")).status_code == 200
        direct.stop()
        try:
            answer = await client.get("/todos")
            assert answer.status_code == 503
            assert (await client.get("/health")).json()["database"] == "unavailable"
        finally:
            direct.start()
        await served(client, 2)


@pytest.mark.parametrize("through", ["direct", "pooler"])
async def test_a_wrong_password_is_told_apart(
    through: str, pooler: Pooler, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = neon_url(DIRECT)
    if through == "pooler":
        monkeypatch.setenv("PGPORT", str(pooler.port))
        url = pooler.url()
    async with serve(url.replace(OWNER_PASSWORD, "npg_not-a-secret-9876")) as client:
        health = await known(client, 3)
        assert (health["database"], health["database_cause"]) == ("unavailable", "wrong password")
        answer = await client.get("/todos")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-refused")
        assert int(answer.headers["retry-after"]) == 30
