"""The SQL of accounts and their tokens."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from app.core.connections import Connection
from app.core.limits import TAKE, Bucket, arguments
from app.users.tokens import LIFETIME, Claims

LOCAL_USER_ID = UUID("00000000-0000-4000-8000-000000000001")


@dataclass(frozen=True)
class Account:
    id: UUID
    email: str
    created_at: datetime


@dataclass(frozen=True)
class Counted(Account):
    password_hash: str | None  # None: sign-in is impossible
    seconds: int  # seconds until the next attempt; 0: this attempt is allowed


# lower() again, because the table's check uses the database's rules for letters.
_INSERT = """
INSERT INTO users (email, password_hash) VALUES (lower(%(email)s), %(hash)s)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, created_at
"""

# If two users sign up first at the same time, the row locks give the todos to one of them.
_ADOPT = """
UPDATE todos SET user_id = %(user)s
WHERE user_id = %(local)s AND NOT EXISTS (
    SELECT FROM users WHERE password_hash IS NOT NULL AND id <> %(user)s
)
"""

_FIND = f"""
{TAKE}
SELECT id, email, created_at, password_hash, seconds
FROM wait LEFT JOIN users ON email = lower(%(email)s)
"""  # noqa: S608 - constants

# The user of a token. No row: the account is gone, the token revoked, or all sessions ended.
SIGNED_IN = """
SELECT id, email, created_at FROM users
WHERE id = %(user)s AND NOT EXISTS (SELECT FROM revoked_tokens WHERE id = %(token)s)
AND (sessions_from IS NULL OR sessions_from <= %(began_at)s)
"""

_HAS_ENDED = "SELECT FROM users WHERE email = lower(%(email)s) AND sessions_from > %(began_at)s"

_END_SESSIONS = """
UPDATE users SET sessions_from = %(now)s, password_hash = coalesce(%(hash)s, password_hash)
WHERE id = %(user)s
"""

_DELETE = "DELETE FROM users WHERE id = %(user)s"

_REVOKE = """
INSERT INTO revoked_tokens (id, user_id, expires_at)
SELECT %(token)s, id, %(expires_at)s FROM users WHERE id = %(user)s
ON CONFLICT DO NOTHING
"""

# Skips rows that other requests are deleting.
_FORGET_EXPIRED = """
DELETE FROM revoked_tokens WHERE id IN (
    SELECT id FROM revoked_tokens WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""


async def insert(conn: Connection, email: str, password_hash: str) -> Account | None:
    """Returns None if the address already has an account."""
    return await conn.fetch_one(Account, _INSERT, {"email": email, "hash": password_hash})


async def adopt_local_todos(conn: Connection, user: UUID) -> int:
    cursor = await conn.execute(_ADOPT, {"user": user, "local": LOCAL_USER_ID})
    return cursor.rowcount


async def find(conn: Connection, email: str, buckets: list[Bucket]) -> Counted:
    """Counts an attempt and returns the stored hash, in one statement.

    Counts before the password is checked: otherwise many concurrent attempts would pass before
    the first of them failed.
    """
    row = await conn.fetch_one(Counted, _FIND, {"email": email, **arguments(buckets)})
    assert row is not None  # noqa: S101 - `wait` is one row
    return row


async def end_sessions(
    conn: Connection, user: UUID, now: datetime, password_hash: str | None = None
) -> None:
    """Ends the sessions that began before `now`, optionally with a new password."""
    await conn.execute(_END_SESSIONS, {"user": user, "now": now, "hash": password_hash})


async def has_ended(conn: Connection, email: str, began_at: datetime) -> bool:
    """Returns whether all sessions of the account were ended after `began_at`."""
    cursor = await conn.execute(_HAS_ENDED, {"email": email, "began_at": began_at})
    return await cursor.fetchone() is not None


async def find_signed_in(conn: Connection, claims: Claims) -> Account | None:
    """Returns None if the account or session has ended. One query, on nearly every request."""
    return await conn.fetch_one(Account, SIGNED_IN, claims.arguments)


async def delete(conn: Connection, user: UUID) -> None:
    await conn.execute(_DELETE, {"user": user})


async def revoke(conn: Connection, claims: Claims) -> None:
    await conn.execute(
        _REVOKE,
        {**claims.arguments, "expires_at": datetime.now(UTC) + LIFETIME},
    )
    await conn.execute(_FORGET_EXPIRED)
