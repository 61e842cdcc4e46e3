"""Brings the schema to this release: `python3 -m app.migrate [--wait SECONDS]`.

Waits for a database that is away, takes a lock that ends with the transaction (a pooler in
transaction mode knows no longer one), and does everything in that one transaction.

Waits without end by default: where it gave up instead, Kubernetes would restart the container with
growing pauses, and a pod that starts during an outage would be minutes late after it. A refusal
that seldom passes by itself (a wrong password) ends it after a few seconds, so that a rollout fails
soon and with the reason.
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
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.core.connections import connect_options
from app.core.dberrors import Cause, Kind, classify
from app.core.ending import EXIT_SETTINGS, explain_end
from app.core.logging import JsonFormatter, configure_logging
from app.core.settings import SettingsError, load_settings

log = logging.getLogger("app.migrate")

FOLDER = Path(__file__).parent / "migrations"

LOCK_KEY = 7_265_646_001  # any number that nothing else in this database uses
LASTING_WAIT_SECONDS = 8.0  # for refusals that seldom pass by themselves
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m app.migrate", description="Migrate the schema"
    )
    parser.add_argument(
        "--wait", type=float, default=math.inf, metavar="SECONDS", help="default: without end"
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
    """Says why the migration failed; the exit code."""
    cause = error.cause
    explain_end(formatter.mask(f"migration failed ({target(url)}): {cause} - {cause.advice}"))
    return EXIT_CODES.get(cause.kind, EXIT_CODES[Kind.OTHER])


def target(url: str) -> str:
    """The URL without user's password, for people."""
    parts: dict[str, Any] = conninfo_to_dict(url)
    host, port = parts.get("host", "local socket"), parts.get("port", 5432)
    return f"{parts.get('user', '?')}@{host}:{port}/{parts.get('dbname', '?')}"


def migrate(url: str, wait: float) -> None:
    patiently(lambda: run(url), wait)


def patiently[T](
    attempt: Callable[[], T], wait: float, tell: Callable[[Cause], None] = lambda _: None
) -> T:
    """Returns what the first attempt that works returns; tells the cause of each that does not.

    Raises MigrationError after `wait` seconds, and sooner for what seldom passes by itself.
    """
    started = time.monotonic()
    lasting_since: float | None = None
    reported: tuple[Cause, float] | None = None
    while True:
        try:
            return attempt()
        except psycopg.Error as error:
            cause = classify(error)
        tell(cause)
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
    """One attempt: all or nothing. Raises `psycopg.Error` and MigrationError."""
    if not is_behind(url):
        return
    from app.upgrade import upgrade  # noqa: PLC0415 - Alembic takes a second to import

    if upgrade(lambda: _connect(url), FOLDER, LOCK_KEY, is_schema_behind, _record):
        log.info("schema migrated", extra=_revision(list(known_migrations())[-1]))


def is_behind(url: str) -> bool:
    """Whether the schema is older than this release; raises as `run`."""
    with _connect(url) as connection:
        return is_schema_behind(connection)


def _connect(url: str) -> psycopg.Connection[Any]:
    # libpq itself reads the URL: what Neon prints means what Neon means.
    return psycopg.connect(url, **connect_options(url, CONNECT_SECONDS))


def is_schema_behind(connection: psycopg.Connection[Any]) -> bool:
    """Whether migrations of this release are not applied, and none that it does not know.

    Raises MigrationError if both are so: then the database belongs to another branch of the code.
    """
    known = known_migrations()
    current, history = _applied(connection)
    if current is None:
        return True
    if current in known:
        # Releases without a history, or branches of the code before it, migrate too.
        past = list(known)[: list(known).index(current) + 1]
        applied = {revision: known[revision] for revision in past} | history
    else:
        applied = {current: current} | history
        if not history:
            log.info("the database has no history of its migrations; all of this release count")
            applied |= known
    missing = sorted(set(known.values()) - set(applied.values()))
    foreign = sorted(set(applied.values()) - set(known.values()))
    if missing and foreign:
        text = f"the database has {', '.join(foreign)}, and lacks {', '.join(missing)} of this code"
        raise MigrationError(Cause(Kind.DIVERGED, text))
    if not missing:
        # A rollback's older image: every migration also serves the release before it.
        state = "newer than this release; left as it is" if foreign else "up to date"
        log.info("schema is %s", state, extra=_revision(current))
    return bool(missing)


def _applied(connection: psycopg.Connection[Any]) -> tuple[str | None, dict[str, str]]:
    """The schema's revision, None before the first migration; names of migrations by revision."""
    tables = "SELECT to_regclass('alembic_version'), to_regclass('schema_history')"
    versions, history = connection.execute(tables).fetchone() or (None, None)
    if versions is None:
        return None, {}
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    names: list[Any] = []
    if history is not None:
        names = connection.execute("SELECT revision, name FROM schema_history").fetchall()
    return None if row is None else str(row[0]), dict(names)


def _record(connection: psycopg.Connection[Any]) -> None:
    """Writes down which migrations the database has. Names, as two people may number alike."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_history (revision text PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    known = known_migrations()
    connection.execute(
        "INSERT INTO schema_history (revision, name) SELECT * FROM unnest(%s::text[], %s::text[])"
        " ON CONFLICT DO NOTHING",
        [list(known), list(known.values())],
    )


def known_migrations() -> dict[str, str]:
    """The files' names of this release's migrations by revision, oldest first."""
    pattern = re.compile(r'^(down_)?revision = (?:"(\w+)"|None)', re.MULTILINE)
    following: dict[str, tuple[str, str]] = {}  # by the revision before; "": the first
    for file in sorted((FOLDER / "versions").glob("*.py")):
        found = dict(pattern.findall(file.read_text()))
        if found["down_"] in following:
            other = following[found["down_"]][1]
            text = f"two migrations follow {found['down_']}: {other} and {file.stem}"
            raise MigrationError(Cause(Kind.OTHER, text))
        following[found["down_"]] = found[""], file.stem
    known: dict[str, str] = {}
    before = ""
    while before in following:
        before, name = following[before]
        known[before] = name
    return known


def _revision(revision: str | None) -> dict[str, dict[str, str | None]]:
    return {"fields": {"revision": revision}}


if __name__ == "__main__":
    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    sys.exit(main())
