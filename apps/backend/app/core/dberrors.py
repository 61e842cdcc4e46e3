"""Classifies why a database does not answer, and gives advice.

libpq gives no SQLSTATE for a refused connection, so this module reads its message. The patterns
include messages of Neon's proxy and of PgBouncer. None of them contains the password.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    UNREACHABLE = "unreachable"
    WAKING_UP = "waking up"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - a kind of error
    NO_SUCH_DATABASE = "no such database"
    ENDPOINT_REFUSED = "endpoint refused"
    TLS_REFUSED = "TLS refused"
    QUOTA_EXCEEDED = "quota exceeded"
    TOO_MANY_CONNECTIONS = "too many connections"
    DIVERGED = "diverged"  # the database has foreign migrations and lacks ours
    LOCKED = "locked"  # somebody else holds a lock that a migration needs
    BUSY = "busy"  # all connections of this process are in use; the server is fine
    OTHER = "failed"


# The first match wins. For a host with several addresses, libpq joins all messages, and
# "unreachable" may only mean that pods have no IPv6.
_PATTERNS = (
    (Kind.NO_SUCH_DATABASE, 'database ".*" does not exist|no such database'),
    (Kind.WRONG_PASSWORD, 'role ".*" does not exist'),
    # "... exceeded the compute time quota", "... Check your quotas ...", and a full project's
    # "could not extend file because project size limit (512 MB) has been exceeded".
    (Kind.QUOTA_EXCEEDED, "quota|project size limit|concurrently active endpoints"),
    # A broken connection, not a refused one, although OpenSSL reports both as errors.
    (Kind.UNREACHABLE, "unexpected eof|ssl syscall|ssl connection has been closed"),
    # The answer is not from Postgres: another program has the port, or the node does not know the
    # Service's address yet, and the packets leave the cluster and reach some proxy.
    (Kind.UNREACHABLE, "expected authentication request|invalid response to ssl"),
    (
        Kind.TLS_REFUSED,
        "does not support ssl|ssl error|ssl required|certificate|weak sslmode|channel binding"
        "|no encryption|ssl off|connection is insecure",
    ),
    (
        Kind.ENDPOINT_REFUSED,
        "endpoint (could not|cannot) be found|endpoint id is not specified|endpoint is disabled"
        "|not allowed to connect to this endpoint|from a blocked network",
    ),
    (Kind.WRONG_PASSWORD, "authentication failed|no password supplied|no pg_hba.conf entry"),
    (
        Kind.TOO_MANY_CONNECTIONS,
        "too many (connections|clients|database connection)|no more connections allowed"
        "|remaining connection slots|query_wait_timeout",
    ),
    (
        Kind.WAKING_UP,
        "starting up|shutting down|in recovery|not yet accepting|connect to compute|control plane"
        "|administrator command",
    ),
    (
        Kind.UNREACHABLE,
        "refused|timeout|timed out|resolve host|could not translate|name or service|unreachable"
        "|no route|closed the connection|connection reset|connection is (lost|closed)|no such file"
        "|get a connection|server login|server conn|cannot connect to server",
    ),
)

_ADVICE = {
    Kind.UNREACHABLE: "Check host and port in DATABASE_URL, and that the network lets pods out.",
    Kind.WAKING_UP: "The server answers but takes no connections yet; try again in a moment.",
    Kind.WRONG_PASSWORD: "Check user and password in DATABASE_URL"
    " (special characters must be percent-encoded).",
    Kind.NO_SUCH_DATABASE: "Check the name after the last / of DATABASE_URL, or create it.",
    Kind.ENDPOINT_REFUSED: "Check the host in DATABASE_URL, and in the provider's console that the"
    " endpoint is enabled and lets this network in.",
    Kind.TLS_REFUSED: "Check sslmode and channel_binding in DATABASE_URL:"
    " Neon needs sslmode=require, the embedded Postgres sslmode=disable.",
    Kind.QUOTA_EXCEEDED: "The provider's limit is reached; see its console.",
    Kind.TOO_MANY_CONNECTIONS: "Use the -pooler host, or end other clients of this database.",
    Kind.DIVERGED: "Other code has migrated this database: deploy that code, or use a branch of"
    " your own. At Neon: Branches, Create branch, then its connection string as DATABASE_URL in"
    " .env. For the embedded database: cargo xtask teardown --data deletes all todos and begins"
    " anew.",
    Kind.LOCKED: "Another client holds a table or migrates: look into pg_stat_activity, end its"
    " transaction, then try again.",
    Kind.BUSY: "More requests come than the database answers.",
    Kind.OTHER: "See the server's own log.",
}

# Waiting may help: a starting server, a network that comes up. Neon's proxy can
# refuse a password while its compute wakes, so the other kinds get a short wait too.
PASSING = frozenset({Kind.UNREACHABLE, Kind.WAKING_UP, Kind.TOO_MANY_CONNECTIONS, Kind.BUSY})


@dataclass(frozen=True)
class Cause:
    """Why the database failed: the kind, and the message."""

    kind: Kind
    text: str

    @property
    def passing(self) -> bool:
        return self.kind in PASSING

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    @property
    def advice(self) -> str:
        return _ADVICE[self.kind]


# Checked first, for servers in any language. For a refused connection libpq gives no SQLSTATE.
# Without class 08, which poolers use for all their errors.
_SQLSTATES = {
    "28": Kind.WRONG_PASSWORD,
    "3D": Kind.NO_SUCH_DATABASE,
    "53300": Kind.TOO_MANY_CONNECTIONS,
    "55P03": Kind.LOCKED,
    "57P": Kind.WAKING_UP,
    "57014": Kind.OTHER,
}


def classify(error: BaseException) -> Cause:
    text = " ".join(str(error).split()).removeprefix("connection failed: ")
    text = text or type(error).__name__
    state = getattr(error, "sqlstate", None) or ""
    for start, kind in _SQLSTATES.items():
        if state.startswith(start):
            return Cause(kind, text)
    for kind, pattern in _PATTERNS:
        if re.search(pattern, text, re.IGNORECASE):
            return Cause(kind, text)
    return Cause(Kind.OTHER, text)
