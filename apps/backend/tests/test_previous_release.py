"""The previous release works on this release's schema, as rollouts and rollbacks require.

`previous_release.tar.gz` is the code in the image of that release. After each release, renew it
(in the project's root, with the release's tag or commit):

    git archive --format=tar RELEASE:apps/backend app | gzip -9n \
        > apps/backend/tests/previous_release.tar.gz

A migration may only remove what the code in that archive no longer uses (expand, then contract).
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from app import migrate
from app.users.repository import LOCAL_USER_ID
from tests.accounts import credentials, new_email
from tests.conftest import AUTH_SECRET, bearer
from tests.openai_server import OpenAIServer, Reply, by_keywords
from tests.postgres import Postgres
from tests.processes import running, wait_until_ready

ARCHIVE = Path(__file__).with_name("previous_release.tar.gz")
VERSIONS = Path("app/migrations/versions")


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def url(server: Postgres) -> str:
    """A database with this release's schema."""
    url = server.create_database(f"with_previous_release_{uuid4().hex}")
    migrate.run(url)
    return url


def test_released_migrations_stay_as_they_were(previous: Path) -> None:
    """Databases have them behind them: an edited one would never run there."""
    here = Path(__file__).parent.parent
    released = sorted((previous / VERSIONS).glob("*.py"))
    assert released
    for file in released:
        assert (here / VERSIONS / file.name).read_text() == file.read_text(), file.name


def test_its_code_works_on_this_schema(previous: Path, url: str) -> None:
    """Both at once, as in a rollout; its own migration finds a newer schema and leaves it."""
    environment = {"DATABASE_URL": url, "AUTH_SECRET": AUTH_SECRET}
    migration = subprocess.run(
        [sys.executable, "-m", "app.migrate"], cwd=previous, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert migration.returncode == 0, migration.stderr
    with psycopg.connect(url) as conn:
        before = conn.execute("SELECT version_num FROM alembic_version").fetchall()
    with (
        running(previous, DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET) as (_, old),
        running(DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET) as (_, new),
    ):
        wait_until_ready(old)
        wait_until_ready(new)
        # What the previous release knows of users decides how it is asked.
        local = bearer(LOCAL_USER_ID)
        every_route_once(old, local)
        kept = httpx.post(f"{old}/todos", json={"title": "kept"}, headers=local).json()
        assert titles(new, local) == ["kept"]
        session = httpx.post(f"{new}/users", json=credentials(new_email())).json()
        first = {"Authorization": f"Bearer {session['token']}"}
        # The first account has it now; the old pods go on with what is theirs.
        assert titles(new, first) == ["kept"]
        assert titles(old, local) == []
        assert httpx.get(f"{old}/todos/{kept['id']}", headers=local).status_code == 404
        every_route_once(old, local)
        assert titles(new, first) == ["kept"]
        signs_in(old)
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchall() == before


def test_an_answer_of_its_that_a_kill_ended_is_not_made_twice(
    previous: Path, url: str, tmp_path: Path
) -> None:
    """Its leases do not name the answer: what tells is that nothing else was written under them."""
    code = Path(shutil.copytree(previous, tmp_path / "previous"))
    lease = code / "app/assistant/lease.py"
    lease.write_text(lease.read_text().replace("LEASE_SECONDS = 30.0", "LEASE_SECONDS = 1.0"))
    with psycopg.connect(url) as conn:
        # Its lease stays, as if the pod had been killed between the answer and the lease's end.
        conn.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql"
                     " AS 'BEGIN RETURN NULL; END'")  # fmt: skip
        conn.execute("CREATE TRIGGER keep BEFORE DELETE ON assistant_leases"
                     " FOR EACH ROW EXECUTE FUNCTION keep()")  # fmt: skip
    with OpenAIServer(by_keywords) as upstream:
        settings = {"DATABASE_URL": url, "AUTH_SECRET": AUTH_SECRET}
        settings |= {"OPENAI_API_KEY": "not-a-secret", "OPENAI_BASE_URL": upstream.url}
        local = bearer(LOCAL_USER_ID)
        upstream.script(Reply(calls=(("add_todo", {"title": "tea"}),)), Reply(text=("Done.",)))
        with running(code, **settings) as (_, old):
            wait_until_ready(old)
            question = {"message": "add tea"}
            first = httpx.post(f"{old}/assistant", json=question, headers=local)
            assert "event: done" in first.text
        time.sleep(1.1)
        with running(None, **settings) as (_, new):
            wait_until_ready(new)
            again = question | {"resume": True}
            second = httpx.post(f"{new}/assistant", json=again, headers=local)
            assert "Done." in second.text
            assert titles(new, local) == ["tea"]
        assert len(upstream.received) == 2


def signs_in(api: str) -> None:
    """What its repository of users does: accounts, sessions, and attempts that are counted."""
    account = credentials(new_email())
    wrong = account | {"password": "not-a-secret, and wrong"}
    assert httpx.post(f"{api}/users", json=account).status_code == 201
    assert httpx.post(f"{api}/session", json=wrong).status_code == 401
    session = httpx.post(f"{api}/session", json=account)
    headers = {"Authorization": f"Bearer {session.json()['token']}"}
    assert httpx.get(f"{api}/me", headers=headers).status_code == 200
    assert httpx.delete(f"{api}/session", headers=headers).status_code == 204
    assert httpx.get(f"{api}/me", headers=headers).status_code == 401


def titles(api: str, headers: dict[str, str]) -> list[str]:
    return [todo["title"] for todo in httpx.get(f"{api}/todos", headers=headers).json()]


def every_route_once(api: str, headers: dict[str, str]) -> None:
    """Every statement of its repository, through the routes that it serves."""

    def ask(method: str, path: str, status: int, body: object = None) -> httpx.Response:
        answer = httpx.request(method, f"{api}{path}", json=body, headers=headers)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer

    assert ask("GET", "/todos", 200).json() == []
    one = ask("POST", "/todos", 201, {"title": "one"}).json()
    two = ask("POST", "/todos", 201, {"title": "two", "order": 5}).json()
    assert ask("GET", f"/todos/{one['id']}", 200).json() == one
    changed = ask("PATCH", f"/todos/{two['id']}", 200, {"title": "2", "completed": True}).json()
    assert (changed["title"], changed["completed"], changed["order"]) == ("2", True, 5)
    page = ask("GET", "/todos?limit=1", 200)
    assert page.json() == [one]
    following = page.links["next"]["url"].partition("/api/v1")[2]
    assert ask("GET", following, 200).json() == [changed]
    ask("DELETE", "/todos?completed=true", 204)
    ask("DELETE", f"/todos/{one['id']}", 204)
    ask("DELETE", "/todos", 204)
    assert ask("GET", "/health?probe=ready", 200).json()["database"] == "ok"
