"""Tells apart why a database does not answer, and what to do about it.

libpq gives no SQLSTATE for a refused connection, so its text decides. The texts of Neon's proxy
are among them. None of them contains the password.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    UNREACHABLE = "unreachable"
    WAKING_UP = "waking up"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - a kind of error
    NO_SUCH_DATABASE = "no such database"
    TLS_REFUSED = "TLS refused"
    QUOTA_EXCEEDED = "quota exceeded"
    TOO_MANY_CONNECTIONS = "too many connections"
    OTHER = "failed"


# The first match wins: a refused password on one address may be followed by others' texts.
_MARKS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (Kind.QUOTA_EXCEEDED, ("quota",)),
    (
        Kind.TLS_REFUSED,
        (
            "does not support ssl",
            "ssl error",
            "certificate",
            "channel binding",
            "no encryption",
            "ssl off",
            "connection is insecure",
        ),
    ),
    (
        Kind.WRONG_PASSWORD,
        (
            "authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            "endpoint could not be found",
            "endpoint id is not specified",
        ),
    ),
    (
        Kind.TOO_MANY_CONNECTIONS,
        ("too many connections", "too many clients", "remaining connection slots"),
    ),
    (
        Kind.WAKING_UP,
        (
            "starting up",
            "shutting down",
            "in recovery",
            "not yet accepting",
            "connect to compute",
            "control plane",
        ),
    ),
    (
        Kind.UNREACHABLE,
        (
            "refused",
            "timeout",
            "timed out",
            "resolve host",
            "could not translate",
            "name or service",
            "unreachable",
            "no route",
            "closed the connection",
            "connection reset",
            "connection is lost",
            "no such file",
            "get a connection",
        ),
    ),
)

_ADVICE = {
    Kind.UNREACHABLE: "Check host and port in DATABASE_URL, and that the network lets pods out.",
    Kind.WAKING_UP: "The server answers but takes no connections yet; try again in a moment.",
    Kind.WRONG_PASSWORD: "Check user and password in DATABASE_URL"
    " (special characters must be percent-encoded).",
    Kind.NO_SUCH_DATABASE: "Check the name after the last / of DATABASE_URL, or create it.",
    Kind.TLS_REFUSED: "Check sslmode and channel_binding in DATABASE_URL:"
    " Neon needs sslmode=require, the embedded Postgres sslmode=disable.",
    Kind.QUOTA_EXCEEDED: "The provider has suspended the database; see its console.",
    Kind.TOO_MANY_CONNECTIONS: "Use the -pooler host, or end other clients of this database.",
    Kind.OTHER: "See the server's own log.",
}

# Waiting may help: a server that starts, a network that comes. Neon's proxy has been seen to
# refuse a password while its compute wakes, so the other kinds get a short wait too.
PASSING = frozenset({Kind.UNREACHABLE, Kind.WAKING_UP, Kind.TOO_MANY_CONNECTIONS})


@dataclass(frozen=True)
class Cause:
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


def classify(error: BaseException) -> Cause:
    text = " ".join(str(error).split()).removeprefix("connection failed: ")
    text = text or type(error).__name__
    lowered = text.lower()
    # 'database "x" does not exist', but not 'role "x" does not exist' nor a missing table.
    if 'database "' in lowered and "does not exist" in lowered:
        return Cause(Kind.NO_SUCH_DATABASE, text)
    if 'role "' in lowered and "does not exist" in lowered:
        return Cause(Kind.WRONG_PASSWORD, text)
    for kind, marks in _MARKS:
        if any(mark in lowered for mark in marks):
            return Cause(kind, text)
    return Cause(Kind.OTHER, text)
