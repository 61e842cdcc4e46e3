"""Refusals as libpq, PgBouncer and Neon's proxy word them."""

import psycopg
import pytest

from app.core.dberrors import Kind, classify

CASES = {
    'connection to server at "10.0.0.1", port 5432 failed: Connection refused': Kind.UNREACHABLE,
    "connection timeout expired": Kind.UNREACHABLE,
    "failed to resolve host 'h': [Errno -2] Name or service not known": Kind.UNREACHABLE,
    "server closed the connection unexpectedly": Kind.UNREACHABLE,
    "couldn't get a connection after 2.00 sec": Kind.UNREACHABLE,
    "FATAL:  the database system is starting up": Kind.WAKING_UP,
    "FATAL:  terminating connection due to administrator command: shutting down": Kind.WAKING_UP,
    "ERROR:  Couldn't connect to compute node": Kind.WAKING_UP,
    'FATAL:  password authentication failed for user "todo"': Kind.WRONG_PASSWORD,
    'FATAL:  role "todo" does not exist': Kind.WRONG_PASSWORD,
    "fe_sendauth: no password supplied": Kind.WRONG_PASSWORD,
    "ERROR:  The requested endpoint could not be found, or you don't have access to it":
        Kind.WRONG_PASSWORD,
    'FATAL:  database "todo" does not exist': Kind.NO_SUCH_DATABASE,
    "server does not support SSL, but SSL was required": Kind.TLS_REFUSED,
    "SSL error: certificate verify failed": Kind.TLS_REFUSED,
    "channel binding required, but server did not offer an authentication method": Kind.TLS_REFUSED,
    "ERROR:  connection is insecure (try using `sslmode=require`)": Kind.TLS_REFUSED,
    "ERROR:  Your project has exceeded the data transfer quota": Kind.QUOTA_EXCEEDED,
    "FATAL:  sorry, too many clients already": Kind.TOO_MANY_CONNECTIONS,
    'relation "users" does not exist': Kind.OTHER,
    "": Kind.OTHER,
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), CASES.items())
def test_kind(text: str, kind: Kind) -> None:
    cause = classify(psycopg.OperationalError(text))
    assert cause.kind is kind
    assert cause.advice.endswith(".")
    assert "\n" not in str(cause)
    assert str(cause).startswith(f"{kind}: ")


def test_only_what_may_pass_is_waited_for_long() -> None:
    passing = {classify(psycopg.OperationalError(text)).kind for text in CASES if
               classify(psycopg.OperationalError(text)).passing}  # fmt: skip
    assert passing == {Kind.UNREACHABLE, Kind.WAKING_UP, Kind.TOO_MANY_CONNECTIONS}
