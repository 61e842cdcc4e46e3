"""The SQL of accounts and their tokens."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from app.core.db import Connection
from app.users.tokens import Claims

LOCAL_USER_ID = UUID("00000000-0000-4000-8000-000000000001")


@dataclass(frozen=True)
class Account:
    id: UUID
    email: str
    created_at: datetime


@dataclass(frozen=True)
class Secret:
    """An account with what its password is checked against; None: nobody signs in to it."""

    id: UUID
    email: str
    created_at: datetime
    password_hash: str | None


# lower() once more: the table checks with the database's own idea of letters.
_INSERT = """
INSERT INTO users (email, password_hash) VALUES (lower(%(email)s), %(hash)s)
ON CONFLICT (email) DO NOTHING
RETURNING id, email, created_at
"""

# Two that sign up at once may both be first: the rows' locks give the todos to one of them.
_ADOPT = """
UPDATE todos SET user_id = %(user)s
WHERE user_id = %(local)s AND NOT EXISTS (
    SELECT FROM users WHERE password_hash IS NOT NULL AND id <> %(user)s
)
"""

_FIND = """
SELECT id, email, created_at, password_hash FROM users WHERE email = lower(%(email)s)
"""

# The user of a token. No row: the account is gone or the token revoked.
SIGNED_IN = """
SELECT id, email, created_at FROM users
WHERE id = %(user)s AND NOT EXISTS (SELECT FROM revoked_tokens WHERE id = %(token)s)
"""

_DELETE = "DELETE FROM users WHERE id = %(user)s"

_REVOKE = """
INSERT INTO revoked_tokens (id, user_id, expires_at)
SELECT %(token)s, id, %(expires_at)s FROM users WHERE id = %(user)s
ON CONFLICT DO NOTHING
"""

# What others are just removing is left to them: nobody waits for a row that nobody needs.
_FORGET_EXPIRED = """
DELETE FROM revoked_tokens WHERE id IN (
    SELECT id FROM revoked_tokens WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""


async def insert(conn: Connection, email: str, password_hash: str) -> Account | None:
    """None: the address has an account already."""
    async with conn.cursor(row_factory=class_row(Account)) as cursor:
        await cursor.execute(_INSERT, {"email": email, "hash": password_hash})
        return await cursor.fetchone()


async def adopt_local_todos(conn: Connection, user: UUID) -> int:
    """Gives the first account what was written before there were accounts."""
    cursor = await conn.execute(_ADOPT, {"user": user, "local": LOCAL_USER_ID})
    return cursor.rowcount


async def find(conn: Connection, email: str) -> Secret | None:
    async with conn.cursor(row_factory=class_row(Secret)) as cursor:
        await cursor.execute(_FIND, {"email": email})
        return await cursor.fetchone()


async def find_signed_in(conn: Connection, claims: Claims) -> Account | None:
    """None: the account is gone or the token was signed out. One query, on nearly every request."""
    async with conn.cursor(row_factory=class_row(Account)) as cursor:
        await cursor.execute(SIGNED_IN, {"user": claims.user, "token": claims.id})
        return await cursor.fetchone()


async def delete(conn: Connection, user: UUID) -> None:
    """Everything that is the user's goes with it, by the tables' references."""
    await conn.execute(_DELETE, {"user": user})


async def revoke(conn: Connection, claims: Claims) -> None:
    await conn.execute(
        _REVOKE,
        {"token": claims.id, "user": claims.user, "expires_at": claims.expires_at},
    )
    await conn.execute(_FORGET_EXPIRED)
