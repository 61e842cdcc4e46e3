"""Migrations on real databases."""

import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app import migrate
from app.core.dberrors import Kind
from app.core.ending import EXIT_SETTINGS
from app.core.logging import JsonFormatter
from app.users.repository import LOCAL_USER_ID
from tests.conftest import AUTH_SECRET, NewServer
from tests.postgres import PASSWORD, USER, Postgres
from tests.processes import Process, started
from tests.waiting import takes_at_most, wait_until

pytestmark = pytest.mark.usefixtures("keep_logging")

Run = Callable[..., tuple[int, str]]
_numbers = count()
RELEASED = migrate.FOLDER
KNOWN = migrate.known_migrations()
HEAD = list(KNOWN)[-1]


@pytest.fixture
def empty(server: Postgres) -> str:
    return server.create_database(f"empty_{next(_numbers)}")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("AUTH_SECRET", AUTH_SECRET)
    monkeypatch.setattr(migrate, "LASTING_WAIT_SECONDS", 0.5)

    def running(url: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("DATABASE_URL", url)
        code = migrate.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return running


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(query.encode()).fetchall()


def migrating(url: str, *arguments: str) -> AbstractContextManager[Process]:
    return started("app.migrate", None, *arguments, DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET)


def output_of(process: Process) -> str:
    return "".join(process.communicate())


def test_from_empty_and_again(empty: str, run: Run) -> None:
    code, output = run(empty)
    assert (code, "schema migrated" in output) == (0, True)
    assert rows(empty, "SELECT id FROM users") == [(LOCAL_USER_ID,)]
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    code, output = run(empty)
    assert (code, "schema is up to date" in output) == (0, True)


def test_emails_of_wrong_passwords_do_not_stay(empty: str, run: Run) -> None:
    assert run(empty)[0] == 0
    with psycopg.connect(empty) as conn:  # as 0.3.0 leaves it
        conn.execute("DROP TABLE schema_history, limits")
        conn.execute("ALTER TABLE users DROP COLUMN sessions_from")
        conn.execute("UPDATE alembic_version SET version_num = '0003'")
        conn.execute("INSERT INTO sign_in_failures (email, client) VALUES ('a@b', '203.0.113.9')")
    assert run(empty)[0] == 0
    assert rows(empty, "SELECT count(*) FROM sign_in_failures") == [(0,)]


def test_an_up_to_date_schema_costs_no_import_of_alembic(empty: str, run: Run) -> None:
    assert run(empty)[0] == 0
    program = "import sys; from app import migrate; migrate.run(sys.argv[1]); print(*sys.modules)"
    python = [sys.executable, "-c", program, empty]
    modules = subprocess.run(python, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert "psycopg" in modules
    assert not {"alembic", "sqlalchemy"} & set(modules)


def test_the_files_tell_the_same_revisions_as_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    scripts = ScriptDirectory.from_config(config)
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert list(migrate.known_migrations()) == revisions[::-1]


def test_two_at_once(empty: str) -> None:
    with migrating(empty) as one, migrating(empty) as two:
        outputs = [output_of(one), output_of(two)]
    assert [one.returncode, two.returncode] == [0, 0], outputs
    assert sorted("schema migrated" in output for output in outputs) == [False, True]
    assert rows(empty, "SELECT count(*) FROM users") == [(1,)]


def test_it_waits_for_the_lock(empty: str) -> None:
    with psycopg.connect(empty) as conn, migrating(empty) as process:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [migrate.LOCK_KEY])
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: rows(empty, waiting) == [(1,)])
        assert process.poll() is None
        conn.rollback()
        output = output_of(process)
    assert process.returncode == 0, output


def test_it_does_not_wait_for_ever_for_a_lock_on_tables(empty: str) -> None:
    with psycopg.connect(empty) as conn:
        conn.execute("CREATE TABLE users (somebody_elses int)")  # and does not commit
        with migrating(empty, "--wait", "10") as process:
            output = output_of(process)
    assert process.returncode == migrate.EXIT_CODES[Kind.OTHER], output
    assert "locked: " in output
    assert "unreachable" not in output
    assert "pg_stat_activity" in output


def test_a_newer_schema_is_left_alone(empty: str, run: Run) -> None:
    assert run(empty)[0] == 0
    with psycopg.connect(empty) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    code, output = run(empty)
    assert (code, "newer than this release" in output) == (0, True)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [("9999",)]


def branch(folder: Path, name: str, revision: str = "0999", after: str = HEAD) -> Path:
    """This release's migrations with one more, which makes a table."""
    copy = folder / name
    shutil.copytree(RELEASED, copy)
    text = (
        f"from alembic import op\nrevision = '{revision}'\ndown_revision = '{after}'\n"
        f'def upgrade() -> None:\n    op.execute("CREATE TABLE {name} (id int)")\n'
    )
    (copy / "versions" / f"{revision}_{name}.py").write_text(text)
    return copy


# Two people may give their migrations different numbers, or the same one.
@pytest.mark.parametrize("theirs", ["0999", "a1b2c3"])
def test_a_database_that_another_branch_has_migrated_is_refused(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "theirs", theirs))
    assert run(empty)[0] == 0
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine"))
    code, output = run(empty)
    assert code == migrate.EXIT_CODES[Kind.DIVERGED]
    last = output.strip().splitlines()[-1]
    assert last.startswith("migration failed (")
    assert f"diverged: the database has {theirs}_theirs, and lacks 0999_mine of this code" in last
    assert "deploy that code, or use a branch of your own" in last
    assert "teardown --data deletes all todos" in last
    assert rows(empty, "SELECT to_regclass('mine')") == [(None,)]
    # Whoever has none of their own goes on.
    monkeypatch.setattr(migrate, "FOLDER", RELEASED)
    code, output = run(empty)
    assert (code, "newer than this release" in output) == (0, True)


def test_a_database_of_a_release_without_a_history_gets_one_by_the_next_migration(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(empty)[0] == 0
    known = [(revision, each.name) for revision, each in migrate.known_migrations().items()]
    assert rows(empty, "SELECT revision, name FROM schema_history ORDER BY 1") == known
    with psycopg.connect(empty) as conn:
        conn.execute("DROP TABLE schema_history")
    code, output = run(empty)
    assert (code, "schema is up to date" in output) == (0, True)
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine"))
    assert run(empty)[0] == 0
    assert rows(empty, "SELECT name FROM schema_history ORDER BY revision")[-1] == ("0999_mine",)
    # Without a history, nobody knows whose revision it is.
    with psycopg.connect(empty) as conn:
        conn.execute("DROP TABLE schema_history")
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    code, output = run(empty)
    assert (code, "newer than this release" in output) == (0, True)
    assert "has no history of its migrations" in output


def test_a_branch_that_diverges_while_another_process_migrates_is_refused(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was behind a moment ago is looked at again under the lock."""
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "theirs", "a1b2c3"))
    migrate.run(empty)
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine"))
    monkeypatch.setattr(migrate, "is_behind", lambda _: True)
    with pytest.raises(migrate.MigrationError, match="diverged"):
        migrate.run(empty)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [("a1b2c3",)]


def test_two_migrations_after_the_same_one_are_refused(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = branch(tmp_path, "mine")
    shutil.copytree(branch(tmp_path, "theirs", "a1b2c3"), merged, dirs_exist_ok=True)
    monkeypatch.setattr(migrate, "FOLDER", merged)
    code, output = run(empty)
    assert code == migrate.EXIT_CODES[Kind.OTHER]
    assert f"two migrations follow {HEAD}: 0999_mine and a1b2c3_theirs" in output


def test_a_migration_that_was_put_before_an_applied_one_is_not_skipped(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine", "a1"))
    assert run(empty)[0] == 0
    rebased = branch(tmp_path, "theirs", "b1")
    shutil.copy(branch(tmp_path / "rebased", "mine", "a1", "b1") / "versions/a1_mine.py",
                rebased / "versions")  # fmt: skip
    monkeypatch.setattr(migrate, "FOLDER", rebased)
    code, output = run(empty)
    assert code == migrate.EXIT_CODES[Kind.DIVERGED], output
    assert "the database has a1_mine, and lacks b1_theirs of this code" in output


def test_a_renamed_file_is_the_same_migration(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = branch(tmp_path, "mine")
    monkeypatch.setattr(migrate, "FOLDER", folder)
    assert run(empty)[0] == 0
    versions = folder / "versions"
    (versions / "0999_mine.py").rename(versions / "0999_better_name.py")
    code, output = run(empty)
    assert (code, "schema is up to date" in output) == (0, True), output
    # The first histories had no digests; the next migration adds them.
    with psycopg.connect(empty) as conn:
        conn.execute("ALTER TABLE schema_history DROP COLUMN digest")
    (versions / "0999_better_name.py").rename(versions / "0999_mine.py")
    shutil.copy(branch(tmp_path, "next", "1000", "0999") / "versions/1000_next.py", versions)
    assert run(empty)[0] == 0
    assert rows(empty, "SELECT count(digest) FROM schema_history") == [(len(KNOWN) + 2,)]


def test_what_older_code_applied_after_the_history_began_is_told(
    empty: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(empty)[0] == 0
    with psycopg.connect(empty) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '0999'")
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine"))
    code, output = run(empty)
    assert code == 0
    assert "0999 is not in the history of migrations" in output


@pytest.mark.parametrize(
    ("revision", "after", "told"),
    [
        ("0999", "0998", "0999_mine follows 0998, which no chain of migrations leads to"),
        (HEAD, HEAD, f"{KNOWN[HEAD].name} and {HEAD}_mine are both revision {HEAD}"),
        ("0999", "not a word", "0999_mine.py has no line `revision"),
    ],
)
def test_migrations_that_are_no_chain_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str, after: str, told: str
) -> None:
    monkeypatch.setattr(migrate, "FOLDER", branch(tmp_path, "mine", revision, after))
    with pytest.raises(migrate.MigrationError, match=told):
        migrate.known_migrations()


def test_a_failed_migration_leaves_nothing(empty: str, run: Run) -> None:
    with psycopg.connect(empty) as conn:
        conn.execute("CREATE TABLE todos (somebody_elses int)")
    code, output = run(empty)
    assert code == migrate.EXIT_CODES[Kind.OTHER]
    assert 'relation "todos" already exists' in output
    assert "Traceback" not in output
    assert rows(empty, "SELECT to_regclass('users'), to_regclass('alembic_version')") == [
        (None, None)
    ]


def test_the_direct_host_is_preferred(
    empty: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL_UNPOOLED", empty)
    assert run("postgresql://pooler.invalid/todo")[0] == 0
    assert rows(empty, "SELECT count(*) FROM todos") == [(0,)]


def test_the_schema_refuses_what_the_api_refuses(server: Postgres) -> None:
    for statement in (
        "INSERT INTO todos (title, position) VALUES ('nobody''s', 1)",
        f"INSERT INTO todos (user_id, title, position) VALUES ('{LOCAL_USER_ID}', '', 1)",
        f"INSERT INTO todos (user_id, title, position) VALUES ('{LOCAL_USER_ID}', repeat('x', 501), 1)",  # noqa: E501
        "INSERT INTO users (email) VALUES ('Upper@todo.invalid')",
        "INSERT INTO users (email) VALUES ('local@todo.invalid')",
    ):
        with pytest.raises(psycopg.IntegrityError):
            server.execute(statement)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and never says a word, like a host behind a broken firewall."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_each_refusal_has_its_name_advice_and_code(server: Postgres, run: Run) -> None:
    cases = {
        Kind.WRONG_PASSWORD: server.url(password="another-p@ss"),
        Kind.NO_SUCH_DATABASE: server.url("no_such"),
        Kind.TLS_REFUSED: server.url(query="?sslmode=require&channel_binding=require"),
    }
    for kind, url in cases.items():
        code, output = run(url, "--wait", "5")
        last = output.strip().splitlines()[-1]
        assert code == migrate.EXIT_CODES[kind]
        assert last.startswith(f"migration failed ({USER}@127.0.0.1:{server.port}/")
        assert f": {kind}: " in last
        assert "DATABASE_URL" in last
        assert "Traceback" not in output
        assert PASSWORD not in output
        assert "another-p@ss" not in output
        assert not re.search("p%40ss", output)


def test_unreachable_hosts_are_waited_for_and_then_named(run: Run, silent_port: int) -> None:
    for url in (
        "postgresql://todo:hidden-word@127.0.0.1:1/todo",
        f"postgresql://todo:hidden-word@127.0.0.1:{silent_port}/todo?connect_timeout=2",
        "postgresql://todo:hidden-word@no-such-host.invalid/todo",
    ):
        with takes_at_most(8):
            code, output = run(url, "--wait", "2")
        assert code == migrate.EXIT_CODES[Kind.UNREACHABLE]
        assert "unreachable" in output.strip().splitlines()[-1]
        assert "hidden-word" not in output
        assert "Traceback" not in output


def test_a_database_that_starts_late_is_waited_for(new_server: NewServer, run: Run) -> None:
    late = new_server()
    starting = threading.Timer(1.5, late.start)
    starting.start()
    code, output = run(late.url(), "--wait", "600")
    starting.join()
    assert code == 0, output
    assert "waiting for the database: unreachable" in output


class _Server(socketserver.TCPServer):
    # Postgres takes the port over while closed connections linger on it.
    allow_reuse_address = True


class _Http(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(64)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_what_answers_in_another_protocol_for_a_moment_is_waited_for(
    new_server: NewServer, run: Run, sslmode: str
) -> None:
    late = new_server()
    with _Server(("127.0.0.1", late.port), _Http) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,)).start()
        code, output = run(late.url(query=f"?sslmode={sslmode}"), "--wait", "1")
        assert code == migrate.EXIT_CODES[Kind.UNREACHABLE], output
        assert "unreachable" in output.strip().splitlines()[-1]
        other.shutdown()
    late.start()
    code, output = run(late.url(), "--wait", "600")
    assert code == 0, output


def test_settings_are_checked_first(run: Run) -> None:
    code, output = run("mysql://x")
    assert code == EXIT_SETTINGS
    assert output.count("\n") == 1
    assert "DATABASE_URL must start with postgresql://" in output


def test_messages_are_masked_even_if_a_library_quotes_the_url() -> None:
    formatter = JsonFormatter(["hidden-word", "postgresql://todo:hidden-word@h/db", "ab"])
    masked = formatter.mask("cannot parse postgresql://todo:hidden-word@h/db: ab hidden-word")
    assert masked == "cannot parse ***: ab ***"
