"""The SQL of a POST that may be sent again: whoever repeats it gets the first answer."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from json import dumps
from uuid import UUID, uuid4

from psycopg.rows import class_row

from app.core.db import Connection
from app.todos.repository import TodoRow
from app.todos.schemas import MAX_ORDER

KEPT = timedelta(hours=24)

_FORGET_OLD = "DELETE FROM idempotency_keys WHERE created_at < now() - %(kept)s"

# One statement, so all or nothing. The second of two at once waits at the key for the first, then
# finds its row; the update changes nothing and is there to read that row. Only the row that this
# very request made carries its ID and gets a todo.
_INSERT_ONCE = """
WITH answer AS (
    INSERT INTO idempotency_keys AS kept (user_id, key, request_digest, todo_id, title, position)
    VALUES (
        %(user)s, %(key)s, %(digest)s, %(id)s, %(title)s,
        coalesce(
            %(order)s::bigint,
            (SELECT least(coalesce(max(position), 0) + 1, %(max_order)s)
             FROM todos WHERE user_id = %(user)s)
        )
    )
    ON CONFLICT (user_id, key) DO UPDATE SET key = kept.key
    RETURNING *
), made AS (
    INSERT INTO todos (id, user_id, title, position)
    SELECT todo_id, user_id, title, position FROM answer WHERE todo_id = %(id)s
)
SELECT todo_id AS id, title, position AS "order", request_digest AS digest,
    (extract(epoch FROM created_at) * 1000000)::bigint AS version
FROM answer
"""


@dataclass(frozen=True)
class _Kept:
    id: UUID
    title: str
    order: int
    digest: bytes
    version: int


@dataclass(frozen=True)
class Once:
    """The first answer, whatever became of its todo since."""

    todo: TodoRow
    replayed: bool
    same_request: bool


async def insert_once(
    conn: Connection, user: UUID, key: str, title: str, order: int | None
) -> Once:
    new = uuid4()
    digest = sha256(dumps([title, order]).encode()).digest()
    await conn.execute(_FORGET_OLD, {"kept": KEPT})
    async with conn.cursor(row_factory=class_row(_Kept)) as cursor:
        await cursor.execute(
            _INSERT_ONCE,
            {
                "user": user,
                "key": key,
                "digest": digest,
                "id": new,
                "title": title,
                "order": order,
                "max_order": MAX_ORDER,
            },
        )
        kept = await cursor.fetchone()
    assert kept is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    todo = TodoRow(kept.id, kept.title, completed=False, order=kept.order, version=kept.version)
    return Once(todo, replayed=kept.id != new, same_request=kept.digest == digest)
