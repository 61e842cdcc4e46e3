"""Migrates the schema to this release: `python3 -m app.migrate [--wait SECONDS]`.

Waits for an unavailable database. Takes a lock that ends with the transaction, because a pooler in
transaction mode supports no longer one. Does everything in that one transaction.

By default it waits forever. If it gave up, Kubernetes would restart the container with growing
pauses, and a pod that started during an outage would be minutes late afterwards. Errors that rarely
resolve on their own (a wrong password) end it after a few seconds, so that a rollout fails soon and
with the reason.
"""

import argparse
import logging
import math
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.core.connections import connect_options
from app.core.dberrors import Cause, Kind, classify
from app.core.ending import EXIT_SETTINGS, explain_end
from app.core.logging import JsonFormatter, configure_logging
from app.core.settings import SettingsError, load_settings

log = logging.getLogger("app.migrate")

FOLDER = Path(__file__).parent / "migrations"

LOCK_KEY = 7_265_646_001  # an arbitrary number, unique in this database
LASTING_WAIT_SECONDS = 8.0  # for errors that rarely resolve on their own
CONNECT_SECONDS = 5
PAUSE_SECONDS = (0.5, 1.0)
REMIND_SECONDS = 30.0

EXIT_TERMINATED = 143

EXIT_CODES = {
    Kind.UNREACHABLE: 3,
    Kind.WAKING_UP: 3,
    Kind.WRONG_PASSWORD: 4,
    Kind.NO_SUCH_DATABASE: 5,
    Kind.TLS_REFUSED: 6,
    Kind.QUOTA_EXCEEDED: 7,
    Kind.TOO_MANY_CONNECTIONS: 8,
    Kind.ENDPOINT_REFUSED: 9,
    Kind.DIVERGED: 10,
    Kind.OTHER: 1,
}


class MigrationError(Exception):
    def __init__(self, cause: Cause) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Migration(NamedTuple):
    """A file's name and the digest of its text; None if the database has no digest."""

    name: str
    digest: str | None

    def is_same(self, other: "Migration | None") -> bool:
        """Compares name or digest: two people may choose one revision, and files get renamed."""
        if other is None:
            return False
        return self.name == other.name or self.digest == other.digest is not None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m app.migrate", description="Migrate the schema"
    )
    parser.add_argument(
        "--wait", type=float, default=math.inf, metavar="SECONDS", help="default: forever"
    )
    wait: float = parser.parse_args(arguments).wait
    try:
        settings = load_settings()
    except SettingsError as error:
        explain_end(f"migration cannot start: {error}")
        return EXIT_SETTINGS
    formatter = configure_logging(settings.log_level, settings.secret_values())
    url = settings.migration_url
    try:
        migrate(url, wait)
    except MigrationError as error:
        return explain(error, url, formatter)
    return 0


def explain(error: MigrationError, url: str, formatter: JsonFormatter) -> int:
    """Prints why the migration failed, and returns the exit code."""
    cause = error.cause
    explain_end(formatter.mask(f"migration failed ({target(url)}): {cause} - {cause.advice}"))
    return EXIT_CODES.get(cause.kind, EXIT_CODES[Kind.OTHER])


def target(url: str) -> str:
    """Returns the URL without its password, for messages."""
    parts: dict[str, Any] = conninfo_to_dict(url)
    host, port = parts.get("host", "local socket"), parts.get("port", 5432)
    user = parts.get("user", "?")
    return f"{user}@{host}:{port}/{parts.get('dbname', user)}"


def migrate(url: str, wait: float) -> None:
    patiently(lambda: run(url), wait)


def patiently[T](
    attempt: Callable[[], T], wait: float, report: Callable[[Cause], None] = lambda _: None
) -> T:
    """Returns the result of the first successful attempt; reports the cause of each failed one.

    Raises MigrationError after `wait` seconds; sooner for errors that rarely resolve on their own.
    """
    started = time.monotonic()
    lasting_since: float | None = None
    reported: tuple[Cause, float] | None = None
    while True:
        try:
            return attempt()
        except psycopg.Error as error:
            cause = classify(error)
        report(cause)
        now = time.monotonic()
        if cause.passing:
            lasting_since = None
        elif cause.kind is Kind.OTHER or (
            (lasting_since := lasting_since or now) + LASTING_WAIT_SECONDS <= now
        ):
            raise MigrationError(cause)
        pause = random.uniform(*PAUSE_SECONDS)  # noqa: S311 - jitter
        if now + pause > started + wait:
            raise MigrationError(cause)
        if reported is None or cause != reported[0] or now > reported[1] + REMIND_SECONDS:
            log.warning(
                "waiting for the database: %s", cause, extra={"fields": {"cause": cause.kind}}
            )
            reported = cause, now
        time.sleep(pause)


def run(url: str) -> None:
    """Migrates completely or not at all. Raises `psycopg.Error` and MigrationError."""
    if not is_behind(url):
        return
    from app.upgrade import upgrade  # noqa: PLC0415 - Alembic takes a second to import

    if upgrade(lambda: _connect(url), FOLDER, LOCK_KEY, is_schema_behind, _record):
        log.info("schema migrated", extra=_revision(list(known_migrations())[-1]))


def is_behind(url: str) -> bool:
    """Returns whether the schema is older than this release. Raises the same errors as `run`."""
    with _connect(url) as connection:
        return is_schema_behind(connection)


def _connect(url: str) -> psycopg.Connection[Any]:
    # libpq itself parses the URL, so Neon's options have their documented meaning.
    return psycopg.connect(url, **connect_options(url, CONNECT_SECONDS))


def is_schema_behind(connection: psycopg.Connection[Any]) -> bool:
    """Returns whether migrations of this release are missing in the database.

    Raises MigrationError if the database also has unknown migrations, or lacks one before its last
    one: then it belongs to another branch of the code.
    """
    known = known_migrations()
    current, history = _applied(connection)
    if current is None:
        return True
    applied = history
    if current not in history:
        # Older releases and branches migrate without writing a history.
        applied = _guess_applied(current, known, history)
    order = list(known)
    missing = [each for each in order if not known[each].is_same(applied.get(each))]
    foreign = sorted(
        migration.name
        for revision, migration in applied.items()
        if not migration.is_same(known.get(revision))
    )
    skipped = current in known and any(order.index(m) < order.index(current) for m in missing)
    if missing and (foreign or skipped):
        has = ", ".join(foreign or [known[current].name])
        lacks = ", ".join(known[revision].name for revision in missing)
        text = f"the database has {has}, and lacks {lacks} of this code"
        raise MigrationError(Cause(Kind.DIVERGED, text))
    if not missing:
        # An older image after a rollback: every migration also works with the previous release.
        state = "newer than this release; left as it is" if foreign else "up to date"
        log.info("schema is %s", state, extra=_revision(current))
    return bool(missing)


def _guess_applied(
    current: str, known: dict[str, Migration], history: dict[str, Migration]
) -> dict[str, Migration]:
    """Returns the applied migrations of a database whose history lacks the current revision."""
    if history:
        log.warning("%s is not in the history of migrations: older code applied it", current)
    if current in known:
        past = list(known)[: list(known).index(current) + 1]
        return {revision: known[revision] for revision in past} | history
    if not history:
        log.info("the database has no history of its migrations; all of this release count")
        history = known
    return {current: Migration(current, None)} | history


def _applied(connection: psycopg.Connection[Any]) -> tuple[str | None, dict[str, Migration]]:
    """Returns the schema's revision (None before the first migration) and its history."""
    tables = "SELECT to_regclass('alembic_version'), to_regclass('schema_history')"
    versions, history = connection.execute(tables).fetchone() or (None, None)
    if versions is None:
        return None, {}
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    found: list[Any] = []
    if history is not None:
        # Old histories have no column `digest`.
        each = "SELECT revision, name, to_jsonb(schema_history) ->> 'digest' FROM schema_history"
        found = connection.execute(each).fetchall()
    past = {revision: Migration(name, digest) for revision, name, digest in found}
    return None if row is None else str(row[0]), past


def _record(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_history (revision text PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    connection.execute("ALTER TABLE schema_history ADD COLUMN IF NOT EXISTS digest text")
    known = known_migrations()
    connection.execute(
        "INSERT INTO schema_history (revision, name, digest)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])"
        " ON CONFLICT (revision) DO UPDATE SET name = excluded.name, digest = excluded.digest",
        [list(known), [each.name for each in known.values()], [e.digest for e in known.values()]],
    )


def known_migrations() -> dict[str, Migration]:
    """Returns this release's migrations by revision, oldest first. Raises MigrationError."""
    pattern = re.compile(r"""^(down_)?revision = (?:["'](\w+)["']|None)""", re.MULTILINE)
    following: dict[str, tuple[str, Migration]] = {}  # by the previous revision; "" for the first
    for file in sorted((FOLDER / "versions").glob("*.py")):
        text = file.read_text()
        found = dict(pattern.findall(text))
        if not found.get("") or "down_" not in found:
            raise _wrong(f"{file.name} has no line `revision = '...'` or `down_revision = ...`")
        if found["down_"] in following:
            other = following[found["down_"]][1].name
            raise _wrong(f"two migrations follow {found['down_']}: {other} and {file.stem}")
        digest = sha256(text.encode()).hexdigest()
        following[found["down_"]] = found[""], Migration(file.stem, digest)
    known: dict[str, Migration] = {}
    before = ""
    while before in following:
        before, migration = following.pop(before)
        if before in known:
            raise _wrong(f"{known[before].name} and {migration.name} are both revision {before}")
        known[before] = migration
    for down, (_, migration) in following.items():
        raise _wrong(f"{migration.name} follows {down}, which no chain of migrations leads to")
    return known


def _wrong(text: str) -> MigrationError:
    return MigrationError(Cause(Kind.OTHER, text))


def _revision(revision: str | None) -> dict[str, dict[str, str | None]]:
    return {"fields": {"revision": revision}}


if __name__ == "__main__":
    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    sys.exit(main())
