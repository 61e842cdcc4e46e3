"""The SQL. Every statement names the user, so nobody can access another user's conversation.

Writes of an answer also name the holder of the user's lease: without the lease they write nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from app.core.connections import Connection

KEPT_MESSAGES = 200  # per user; older ones are deleted


@dataclass(frozen=True)
class MessageRow:
    id: UUID
    role: Literal["user", "assistant"]
    text: str
    touched: list[UUID]
    steps: list[dict[str, Any]]
    created_at: datetime


@dataclass(frozen=True)
class ConfirmationRow:
    id: UUID
    message_id: UUID
    todos: list[dict[str, Any]]
    expires_at: datetime


@dataclass(frozen=True)
class Written:
    id: UUID
    text: str
    touched: list[UUID]
    steps: list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    id: UUID
    text: str
    created_at: datetime


_LAST = """
SELECT id, role, text, touched, steps, created_at FROM assistant_messages
WHERE user_id = %(user)s AND number <= coalesce(
    (SELECT number FROM assistant_messages WHERE user_id = %(user)s AND id = %(until)s),
    9223372036854775807
)
ORDER BY number DESC LIMIT %(limit)s
"""

_HELD = """
SELECT 1 FROM assistant_leases WHERE user_id = %(user)s AND holder = %(holder)s FOR UPDATE
"""

_INSERT_ASKED = """
INSERT INTO assistant_messages (id, user_id, role, text, created_at)
VALUES (%(id)s, %(user)s, 'user', %(text)s, %(created_at)s)
ON CONFLICT (id) DO NOTHING
"""

_UPSERT_ANSWER = """
INSERT INTO assistant_messages AS old (id, user_id, role, text, touched, steps)
VALUES (%(id)s, %(user)s, 'assistant', %(text)s, %(touched)s, %(steps)s)
ON CONFLICT (id) DO UPDATE
SET text = excluded.text, touched = excluded.touched, steps = excluded.steps
WHERE old.user_id = excluded.user_id
"""

_FORGET_OLD = """
DELETE FROM assistant_messages WHERE user_id = %(user)s AND number <= (
    SELECT number FROM assistant_messages WHERE user_id = %(user)s
    ORDER BY number DESC OFFSET %(kept)s LIMIT 1
)
"""

_UPDATE_STEPS = """
UPDATE assistant_messages SET steps = %(steps)s WHERE user_id = %(user)s AND id = %(id)s
"""

_FORGET = "DELETE FROM assistant_messages WHERE user_id = %(user)s"

_INSERT_CONFIRMATION = """
INSERT INTO assistant_confirmations (user_id, message_id, todos, expires_at)
VALUES (%(user)s, %(message)s, %(todos)s, now() + make_interval(secs => %(seconds)s))
RETURNING id, message_id, todos, expires_at
"""

# Keeps answered ones for a day, to tell a second answer from an unknown confirmation.
_DROP_OLD_CONFIRMATIONS = """
DELETE FROM assistant_confirmations
WHERE user_id = %(user)s AND expires_at < now() - interval '1 day'
"""

# A confirmation is open only while its message is the newest one.
_OPEN_CONFIRMATION = """
SELECT id, message_id, todos, expires_at FROM assistant_confirmations
WHERE user_id = %(user)s AND answered_at IS NULL AND expires_at > now() AND message_id = (
    SELECT id FROM assistant_messages WHERE user_id = %(user)s ORDER BY number DESC LIMIT 1
)
"""

# The condition on answered_at accepts exactly one of two simultaneous answers.
_CLAIM = """
UPDATE assistant_confirmations SET answered_at = now()
WHERE user_id = %(user)s AND id = %(id)s AND answered_at IS NULL AND expires_at > now()
RETURNING id, message_id, todos, expires_at
"""

_WAS_ANSWERED = """
SELECT 1 FROM assistant_confirmations
WHERE user_id = %(user)s AND id = %(id)s AND answered_at IS NOT NULL
"""

# The holder's ID is also that of its answer. Pods of 0.3.0 give the answer another ID, but after
# the last renewal of a lease only its holder can have written messages.
_TAKE_LEASE = """
WITH expired AS (
    SELECT coalesce((
        SELECT id FROM assistant_messages AS message
        WHERE user_id = %(user)s AND role = 'assistant' AND age(message.xmin) < age(lease.xmin)
        ORDER BY number DESC LIMIT 1
    ), holder) AS answer
    FROM assistant_leases AS lease WHERE user_id = %(user)s
)
INSERT INTO assistant_leases AS old (user_id, holder, expires_at)
VALUES (%(user)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (user_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE old.expires_at <= now()
RETURNING (SELECT answer FROM expired) AS killed
"""

_RENEW_LEASE = """
UPDATE assistant_leases SET expires_at = now() + make_interval(secs => %(seconds)s)
WHERE user_id = %(user)s AND holder = %(holder)s
"""

_END_LEASE = """
UPDATE assistant_leases SET holder = %(unstored)s, expires_at = now()
WHERE user_id = %(user)s AND holder = %(holder)s
"""

_DROP_LEASE = """
DELETE FROM assistant_leases
WHERE user_id = %(user)s AND holder = coalesce(%(holder)s::uuid, holder)
"""


async def find_last(
    conn: Connection, user: UUID, limit: int, until: UUID | None = None
) -> list[MessageRow]:
    """Returns the last messages, oldest first; with `until`, none newer than that one."""
    arguments = {"user": user, "limit": limit, "until": until}
    return (await conn.fetch(MessageRow, _LAST, arguments))[::-1]


async def store(
    conn: Connection, user: UUID, holder: UUID, asked: Asked | None, answer: Written
) -> bool:
    """Stores question and answer, or the answer's new state. Returns False if the lease is lost."""
    async with conn.transaction():
        held = await conn.execute(_HELD, {"user": user, "holder": holder})
        if held.rowcount != 1:
            return False
        if asked is not None:
            await conn.execute(_INSERT_ASKED, vars(asked) | {"user": user})
        arguments = vars(answer) | {"user": user, "steps": Jsonb(answer.steps)}
        await conn.execute(_UPSERT_ANSWER, arguments)
        await conn.execute(_FORGET_OLD, {"user": user, "kept": KEPT_MESSAGES})
    return True


async def update_steps(
    conn: Connection, user: UUID, message: UUID, steps: list[dict[str, Any]]
) -> None:
    await conn.execute(_UPDATE_STEPS, {"user": user, "id": message, "steps": Jsonb(steps)})


async def forget(conn: Connection, user: UUID) -> None:
    """Deletes the conversation. Also deletes the lease, so a running answer is not stored."""
    async with conn.transaction():
        await drop_lease(conn, user, None)
        await conn.execute(_FORGET, {"user": user})


async def insert_confirmation(
    conn: Connection, user: UUID, message: UUID, todos: list[dict[str, Any]], seconds: float
) -> ConfirmationRow:
    arguments = {"user": user, "message": message, "todos": Jsonb(todos), "seconds": seconds}
    await conn.execute(_DROP_OLD_CONFIRMATIONS, {"user": user})
    row = await conn.fetch_one(ConfirmationRow, _INSERT_CONFIRMATION, arguments)
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    return row


async def find_open_confirmation(conn: Connection, user: UUID) -> ConfirmationRow | None:
    return await conn.fetch_one(ConfirmationRow, _OPEN_CONFIRMATION, {"user": user})


async def claim_confirmation(
    conn: Connection, user: UUID, confirmation: UUID
) -> ConfirmationRow | None:
    return await conn.fetch_one(ConfirmationRow, _CLAIM, {"user": user, "id": confirmation})


async def was_answered(conn: Connection, user: UUID, confirmation: UUID) -> bool:
    cursor = await conn.execute(_WAS_ANSWERED, {"user": user, "id": confirmation})
    return cursor.rowcount == 1


async def take_lease(
    conn: Connection, user: UUID, holder: UUID, seconds: float
) -> dict[str, UUID | None] | None:
    """Returns None if another request is running. `killed`: the answer of an unreleased lease."""
    arguments = {"user": user, "holder": holder, "seconds": seconds}
    return await (await conn.execute(_TAKE_LEASE, arguments)).fetchone()


async def renew_lease(conn: Connection, user: UUID, holder: UUID, seconds: float) -> bool:
    arguments = {"user": user, "holder": holder, "seconds": seconds}
    return (await conn.execute(_RENEW_LEASE, arguments)).rowcount == 1


async def end_lease(conn: Connection, user: UUID, holder: UUID, unstored: UUID) -> None:
    """Releases the lease for the next request, which gets `unstored` as `killed`."""
    arguments = {"user": user, "holder": holder, "unstored": unstored}
    await conn.execute(_END_LEASE, arguments)


async def drop_lease(conn: Connection, user: UUID, holder: UUID | None) -> None:
    """Deletes the holder's lease; without `holder`, any lease of the user."""
    await conn.execute(_DROP_LEASE, {"user": user, "holder": holder})
