"""The SQL that limits sign-in, for all replicas together.

An attempt is counted before its password is looked at and taken back if it was right: otherwise
many at once would all be let through before the first of them failed.
"""

from dataclasses import dataclass
from datetime import timedelta

from psycopg.rows import class_row

from app.core.db import Connection

WINDOW = timedelta(minutes=15)
MAX_PER_ACCOUNT = 5
MAX_PER_CLIENT = 50

# One at a time for a client and for an account, so that counting and adding are one thing. Always
# in this order, so that two never wait for each other; the locks end with the transaction.
_LOCK = """
SELECT pg_advisory_xact_lock(726564, hashtext(%(client)s)),
       pg_advisory_xact_lock(726565, hashtext(%(email)s))
"""

# The fifth newest failure decides when the account is free again, the fiftieth the client's.
_SECONDS_LEFT = """
SELECT coalesce(ceil(extract(epoch FROM max(failed_at) + %(window)s - now())), 0)::int AS seconds
FROM (
    (SELECT failed_at FROM sign_in_failures
     WHERE email = %(email)s AND failed_at > now() - %(window)s
     ORDER BY failed_at DESC OFFSET %(per_account)s - 1 LIMIT 1)
    UNION ALL
    (SELECT failed_at FROM sign_in_failures
     WHERE client = %(client)s AND failed_at > now() - %(window)s
     ORDER BY failed_at DESC OFFSET %(per_client)s - 1 LIMIT 1)
) AS deciding
"""

_INSERT = "INSERT INTO sign_in_failures (email, client) VALUES (%(email)s, %(client)s)"

_FORGET_OLD = """
DELETE FROM sign_in_failures WHERE id IN (
    SELECT id FROM sign_in_failures WHERE failed_at <= now() - %(window)s
    LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""

_FORGET_ACCOUNT = "DELETE FROM sign_in_failures WHERE email = %(email)s"


@dataclass(frozen=True)
class _Left:
    seconds: int


async def begin(conn: Connection, email: str, client: str) -> int:
    """Counts an attempt. Not 0: it is one too many, for so many seconds."""
    arguments = {
        "email": email,
        "client": client,
        "window": WINDOW,
        "per_account": MAX_PER_ACCOUNT,
        "per_client": MAX_PER_CLIENT,
    }
    async with conn.transaction(), conn.cursor(row_factory=class_row(_Left)) as cursor:
        await cursor.execute(_LOCK, arguments)
        await cursor.execute(_SECONDS_LEFT, arguments)
        left = await cursor.fetchone()
        assert left is not None  # noqa: S101 - an aggregate gives one row
        if left.seconds > 0:
            return left.seconds
        await cursor.execute(_INSERT, arguments)
        await cursor.execute(_FORGET_OLD, arguments)
    return 0


async def forget(conn: Connection, email: str) -> None:
    """A right password (or the account's end) makes good what went wrong before it."""
    await conn.execute(_FORGET_ACCOUNT, {"email": email})
