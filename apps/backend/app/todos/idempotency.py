"""The SQL for repeated POSTs, which get the first answer."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from json import dumps
from uuid import UUID, uuid4

from app.core.connections import Connection
from app.todos.repository import HAS_ROOM, POSITION, TodoRow
from app.todos.schemas import MAX_ORDER, TodoCreate

KEPT = timedelta(hours=24)

# Deletes the old row of this key, and a limited number of others.
_FORGET_OLD = """
WITH old AS (
    SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - %(kept)s
    LIMIT 100 FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_keys WHERE created_at < now() - %(kept)s
AND (user_id, key) IN (SELECT * FROM old UNION ALL VALUES (%(user)s::uuid, %(key)s::text))
"""

# One statement, so all or nothing. A concurrent request with the same key waits for the first and
# then finds its row. The update changes nothing; it only reads that row. Only the request whose own
# ID is in the row creates the todo.
_INSERT_ONCE = f"""
WITH answer AS (
    INSERT INTO idempotency_keys AS kept (user_id, key, request_digest, todo_id, title, position)
    SELECT %(user)s, %(key)s, %(digest)s, %(id)s, %(title)s, {POSITION} WHERE {HAS_ROOM}
    OR EXISTS (SELECT FROM idempotency_keys WHERE user_id = %(user)s AND key = %(key)s)
    ON CONFLICT (user_id, key) DO UPDATE SET key = kept.key
    RETURNING *
), made AS (
    INSERT INTO todos (id, user_id, title, position)
    SELECT todo_id, user_id, title, position FROM answer WHERE todo_id = %(id)s
)
SELECT todo_id AS id, title, false AS completed, position AS "order",
    (extract(epoch FROM created_at) * 1000000)::bigint AS version,
    todo_id <> %(id)s AS replayed, request_digest = %(digest)s AS same_request
FROM answer
"""  # noqa: S608 - constants


@dataclass(frozen=True, kw_only=True)
class Once(TodoRow):
    """Returns the first answer, even if the todo has changed since."""

    replayed: bool
    same_request: bool


async def insert_once(
    conn: Connection, user: UUID, key: str, wanted: TodoCreate, quota: int
) -> Once | None:
    await conn.execute(_FORGET_OLD, {"kept": KEPT, "user": user, "key": key})
    arguments = {
        "user": user,
        "key": key,
        "digest": sha256(dumps([wanted.title, wanted.order]).encode()).digest(),
        "id": uuid4(),
        "title": wanted.title,
        "order": wanted.order,
        "max_order": MAX_ORDER,
        "quota": quota,
    }
    return await conn.fetch_one(Once, _INSERT_ONCE, arguments)
