"""Connection errors in the words of libpq, PgBouncer and Neon's proxy."""

import psycopg
import pytest

from app.core.dberrors import Kind, classify

CASES = {
    'connection to server at "10.0.0.1", port 5432 failed: Connection refused': Kind.UNREACHABLE,
    "connection timeout expired": Kind.UNREACHABLE,
    "failed to resolve host 'h': [Errno -2] Name or service not known": Kind.UNREACHABLE,
    "server closed the connection unexpectedly": Kind.UNREACHABLE,
    "expected authentication request from server, but received H": Kind.UNREACHABLE,
    "received invalid response to SSL negotiation: H": Kind.UNREACHABLE,
    "couldn't get a connection after 2.00 sec": Kind.UNREACHABLE,
    "FATAL:  the database system is starting up": Kind.WAKING_UP,
    "FATAL:  terminating connection due to administrator command: shutting down": Kind.WAKING_UP,
    "ERROR:  Couldn't connect to compute node": Kind.WAKING_UP,
    'FATAL:  password authentication failed for user "todo"': Kind.WRONG_PASSWORD,
    'FATAL:  role "todo" does not exist': Kind.WRONG_PASSWORD,
    "fe_sendauth: no password supplied": Kind.WRONG_PASSWORD,
    'FATAL:  database "todo" does not exist': Kind.NO_SUCH_DATABASE,
    "server does not support SSL, but SSL was required": Kind.TLS_REFUSED,
    "SSL error: certificate verify failed": Kind.TLS_REFUSED,
    'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")':
        Kind.TLS_REFUSED,
    "channel binding required, but server did not offer an authentication method": Kind.TLS_REFUSED,
    "ERROR:  connection is insecure (try using `sslmode=require`)": Kind.TLS_REFUSED,
    "ERROR:  Your project has exceeded the data transfer quota": Kind.QUOTA_EXCEEDED,
    "ERROR:  Your account or project has exceeded the compute time quota. Upgrade your plan to"
    " increase limits.": Kind.QUOTA_EXCEEDED,
    "Control plane request failed: endpoint is temporarily unavailable. Check your quotas and/or"
    " contact our support.": Kind.QUOTA_EXCEEDED,
    "could not extend file because project size limit (512 MB) has been exceeded":
        Kind.QUOTA_EXCEEDED,
    "You have exceeded the limit of concurrently active endpoints.": Kind.QUOTA_EXCEEDED,
    "ERROR:  The requested endpoint could not be found, or you don't have access to it":
        Kind.ENDPOINT_REFUSED,
    "Control plane request failed: endpoint cannot be found": Kind.ENDPOINT_REFUSED,
    "ERROR:  The requested endpoint is disabled. Enable it using Neon API and retry.":
        Kind.ENDPOINT_REFUSED,
    "ERROR:  Endpoint ID is not specified. Either please upgrade the postgres client library":
        Kind.ENDPOINT_REFUSED,
    "This IP address 192.0.2.1 is not allowed to connect to this endpoint.": Kind.ENDPOINT_REFUSED,
    "password authentication failed for user 'todo'": Kind.WRONG_PASSWORD,
    "Control plane request failed": Kind.WAKING_UP,
    "Failed to acquire permit to connect to the database. Too many database connection attempts"
    " are currently ongoing.": Kind.TOO_MANY_CONNECTIONS,
    "Too many connections to this endpoint. Please try again later.": Kind.TOO_MANY_CONNECTIONS,
    "FATAL:  query_wait_timeout": Kind.TOO_MANY_CONNECTIONS,
    "FATAL:  no more connections allowed (max_client_conn)": Kind.TOO_MANY_CONNECTIONS,
    "FATAL:  server login has been failing, try again later (server_login_retry)":
        Kind.UNREACHABLE,
    'FATAL:  server login has been failing, cached error: password authentication failed for user'
    ' "todo" (server_login_retry)': Kind.WRONG_PASSWORD,
    "FATAL:  SSL required": Kind.TLS_REFUSED,
    'no such database: todo': Kind.NO_SUCH_DATABASE,
    "consuming input failed: SSL error: unexpected eof while reading": Kind.UNREACHABLE,
    "consuming input failed: SSL SYSCALL error: EOF detected": Kind.UNREACHABLE,
    "terminating connection due to administrator command\nSSL connection has been closed"
    " unexpectedly": Kind.UNREACHABLE,
    "terminating connection due to administrator command": Kind.WAKING_UP,
    # A host with an IPv4 and an IPv6 address, in a pod that has no IPv6.
    "connection is bad: connection to server at \"2001:db8::1\", port 5432 failed: Network is"
    " unreachable\nMultiple connection attempts failed. All failures were:\n- host: 'ep-x', port:"
    " None, hostaddr: '192.0.2.1': connection failed: ERROR: password authentication failed for"
    " user 'todo'\n- host: 'ep-x', port: None, hostaddr: '2001:db8::1': connection is bad: Network"
    " is unreachable": Kind.WRONG_PASSWORD,
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


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), Kind.LOCKED),
        (psycopg.errors.LockNotAvailable("Anfrage wegen Zeitlimit abgebrochen"), Kind.LOCKED),
        (psycopg.errors.TooManyConnections("Verbindungslimit erreicht"), Kind.TOO_MANY_CONNECTIONS),
        (psycopg.errors.InvalidPassword("falsches Kennwort"), Kind.WRONG_PASSWORD),
        (psycopg.errors.AdminShutdown("Verbindung wird abgebrochen"), Kind.WAKING_UP),
        (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), Kind.OTHER),
    ],
)
def test_the_sqlstate_comes_before_the_text(error: psycopg.Error, kind: Kind) -> None:
    cause = classify(error)
    assert cause.kind is kind
    assert cause.advice.endswith(".")
