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
    """One attempt: all or nothing. Raises `psycopg.Error`."""
    if not is_behind(url):
        return
    from app.upgrade import upgrade  # noqa: PLC0415 - Alembic takes a second to import

    known, head = known_revisions()
    migrated = upgrade(lambda: _connect(url), FOLDER, known, LOCK_KEY)
    log.info("schema migrated" if migrated else "schema is up to date", extra=_revision(head))


def is_behind(url: str) -> bool:
    """Whether the schema is older than this release. Raises `psycopg.Error`."""
    with _connect(url) as connection:
        current = schema_revision(connection)
    if is_pending(current):
        return True
    if current == known_revisions()[1]:
        log.info("schema is up to date", extra=_revision(current))
    else:
        # A rollback's older image: every migration also serves the release before it.
        log.info("schema is newer than this release; left as it is", extra=_revision(current))
    return False


def _connect(url: str) -> psycopg.Connection[Any]:
    # libpq itself reads the URL: what Neon prints means what Neon means.
    return psycopg.connect(url, **connect_options(url, CONNECT_SECONDS))


def schema_revision(connection: psycopg.Connection[Any]) -> str | None:
    """The revision of the schema, from Alembic's table; None before the first migration."""
    if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def known_revisions() -> tuple[set[str], str]:
    """All revisions of this release and the newest one, read from its migrations' files."""
    pattern = re.compile(r'^(down_)?revision = "(\w+)"', re.MULTILINE)
    found = [
        match
        for file in (FOLDER / "versions").glob("*.py")
        for match in pattern.findall(file.read_text())
    ]
    known = {revision for down, revision in found if not down}
    (head,) = known - {revision for down, revision in found if down}
    return known, head


def is_pending(current: str | None) -> bool:
    """Whether a schema of this revision is older than this release."""
    known, head = known_revisions()
    return current is None or (current in known and current != head)


def _revision(revision: str | None) -> dict[str, dict[str, str | None]]:
    return {"fields": {"revision": revision}}


if __name__ == "__main__":
    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    sys.exit(main())
