"""Checks the database as this application uses it: `python3 -m app.preflight [--wait SECONDS]`.

Prints one line of JSON, never the password: name resolution, connection, TLS, authentication,
database, time to wake up, server version, pooler or direct. xtask runs it twice before a release:
on the user's machine with the URL on standard input, and in a pod with the mounted Secret. Both
check whether other code has migrated the database. If there is something to migrate, the pod also
checks whether the migrating role may create tables.
"""

import argparse
import json
import os
import random
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.core.connections import connect_options
from app.core.dberrors import Cause, Kind, classify
from app.core.logging import JsonFormatter
from app.core.settings import SettingsError, load_settings, url_password
from app.migrate import MigrationError, is_schema_behind, target

DEFAULT_WAIT_SECONDS = 20.0  # Neon's compute wakes within 5 s
CONNECT_SECONDS = 10  # a proxy keeps the connection waiting while its compute starts
REACH_SECONDS = 3.0
LASTING_SECONDS = 3.0  # Neon's proxy can refuse a correct password while its compute wakes
PAUSE_SECONDS = (0.3, 0.8)
TEXT_LIMIT = 300


@dataclass
class Finding:
    """The result; times in milliseconds."""

    ok: bool = False
    target: str = ""
    host: str = ""
    addresses: list[str] = field(default_factory=list)
    resolve_ms: int = 0
    connect_ms: int = 0
    query_ms: int = 0
    woke_ms: int | None = None
    tls: bool = False
    sslmode: str = "prefer"
    server: str = ""
    pooled: bool = False
    attempts: int = 0
    step: str = ""
    kind: str = ""
    text: str = ""
    advice: str = ""


class _StepError(Exception):
    def __init__(self, step: str, cause: Cause, kind: str = "", advice: str = "") -> None:
        super().__init__(str(cause))
        self.step, self.text = step, cause.text
        self.kind, self.advice = kind or cause.kind, advice or cause.advice


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m app.preflight", description=__doc__)
    parser.add_argument("--wait", type=float, default=DEFAULT_WAIT_SECONDS, metavar="SECONDS")
    parser.add_argument("--stdin", action="store_true", help="take the URL from standard input")
    given = parser.parse_args(arguments)
    try:
        if given.stdin:
            finding = examine(sys.stdin.read().strip(), given.wait)
        else:
            settings = load_settings()
            url = settings.database_url.get_secret_value()
            finding = examine(url, given.wait, settings.migration_url)
    except SettingsError as error:
        finding = Finding(step="settings", kind=Kind.OTHER, text=str(error))
    print(json.dumps(asdict(finding)), flush=True)
    return 0 if finding.ok else 1


def examine(url: str, wait: float, migration_url: str | None = None) -> Finding:
    """Retries until the database answers, an error persists, or `wait` seconds have passed."""
    finding = Finding()
    try:
        parts: dict[str, Any] = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # psycopg's own message quotes parts of the URL, possibly the password.
        raise SettingsError("DATABASE_URL is no valid Postgres URL") from None
    finding.host = str(parts.get("host", "localhost"))
    port = str(parts.get("port", 5432))
    finding.target = target(url)
    finding.sslmode = str(parts.get("sslmode", "prefer"))
    secrets = [each for each in (url, migration_url) if each]
    mask = JsonFormatter((*secrets, *map(url_password, secrets))).mask
    try:
        _resolve(finding, port)
        _reach(finding, port)
        _connect(finding, url, wait)
        _look_at_schema(finding, migration_url or url, will_migrate=migration_url is not None)
    except _StepError as error:
        finding.ok = False
        finding.step, finding.kind = error.step, error.kind
        finding.text = mask(error.text)[:TEXT_LIMIT]
        finding.advice = error.advice
    return finding


def _resolve(finding: Finding, port: str) -> None:
    started = time.monotonic()
    failed: list[str] = []
    for host in finding.host.split(","):
        try:
            found = socket.getaddrinfo(host, _first(port), type=socket.SOCK_STREAM)
        except OSError as error:
            failed.append(f"{host} does not resolve: {error.strerror or error}")
        else:
            addresses = (str(address[4][0]) for address in found)
            finding.addresses += [a for a in addresses if a not in finding.addresses]
    finding.resolve_ms = _since(started)
    if not finding.addresses:
        raise _StepError("name resolution", Cause(Kind.UNREACHABLE, "; ".join(failed)))


def _reach(finding: Finding, port: str) -> None:
    failed: list[str] = []
    for address in finding.addresses:
        try:
            with socket.create_connection((address, _first(port)), timeout=REACH_SECONDS):
                return
        except OSError as error:
            failed.append(f"{address}:{_first(port)}: {error.strerror or error}")
    raise _StepError("connection", Cause(Kind.UNREACHABLE, "; ".join(failed)))


def _connect(finding: Finding, url: str, wait: float) -> None:
    started = time.monotonic()
    slept = False
    while True:
        finding.attempts += 1
        attempt = time.monotonic()
        try:
            with psycopg.connect(url, **connect_options(url, CONNECT_SECONDS)) as conn:
                finding.connect_ms = _since(attempt)
                _ask(finding, conn)
                if slept:
                    finding.woke_ms = _since(started)
                return
        except psycopg.Error as error:
            cause = _told(error)
        slept = slept or cause.kind in (Kind.WAKING_UP, Kind.WRONG_PASSWORD)
        pause = random.uniform(*PAUSE_SECONDS)  # noqa: S311 - jitter
        lasting = LASTING_SECONDS if cause.kind is Kind.WRONG_PASSWORD else 0.0
        patience = wait if cause.passing else min(wait, lasting)
        if time.monotonic() + pause > started + patience:
            raise _StepError(_step(cause.kind), cause)
        time.sleep(pause)


def _told(error: psycopg.Error) -> Cause:
    cause = classify(error)
    # The port was open a moment ago, so the silence is that of a proxy whose compute is starting.
    if cause.kind is Kind.UNREACHABLE and "refused" not in cause.text.lower():
        return Cause(Kind.WAKING_UP, cause.text)
    return cause


def _step(kind: Kind) -> str:
    steps = {
        Kind.TLS_REFUSED: "TLS",
        Kind.WRONG_PASSWORD: "authentication",
        Kind.NO_SUCH_DATABASE: "database",
        Kind.WAKING_UP: "waking up",
        Kind.ENDPOINT_REFUSED: "endpoint",
        Kind.UNREACHABLE: "connection",
    }
    return steps.get(kind, "session")


def _ask(finding: Finding, conn: psycopg.Connection[Any]) -> None:
    started = time.monotonic()
    row = conn.execute("SELECT current_setting('server_version'), pg_backend_pid()").fetchone()
    finding.query_ms = _since(started)
    version, backend = row if row is not None else ("", 0)
    finding.server = str(version).split(" ")[0]
    finding.tls = bool(conn.pgconn.ssl_in_use)
    # A pooler returns its own process numbers; Neon's also has a special host name.
    finding.pooled = "-pooler." in finding.host or conn.info.backend_pid != backend
    finding.ok = True


def _look_at_schema(finding: Finding, url: str, *, will_migrate: bool) -> None:
    finding.target = target(url)
    try:
        with psycopg.connect(url, **connect_options(url, CONNECT_SECONDS)) as conn:
            if not is_schema_behind(conn) or not will_migrate:
                return
            row = conn.execute(
                "SELECT current_user, current_schema(), format('%I', current_user),"
                " format('GRANT USAGE, CREATE ON SCHEMA %I TO %I',"
                " coalesce(current_schema(), 'public'), current_user),"
                " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
            ).fetchone()
    except MigrationError as error:
        raise _StepError("migrations", error.cause) from error
    except psycopg.Error as error:
        if will_migrate:
            raise _StepError("migrations", classify(error)) from error
        return
    if row is not None and not row[4]:
        where = f"schema {row[1]}" if row[1] else "any schema of its search path"
        text = f"role {row[0]} may not create tables in {where}"
        advice = f"As the owner of the database, let {row[2]} migrate it: {row[3]};"
        cause = Cause(Kind.OTHER, text)
        raise _StepError("migrations", cause, "missing privilege", advice)


def _first(port: str) -> int:
    return int(port.split(",", maxsplit=1)[0] or 5432)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The thread of an unanswered name lookup must not keep the process alive.
    os._exit(code)
