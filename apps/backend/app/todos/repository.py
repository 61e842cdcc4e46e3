"""The SQL. Every statement names the user: nobody reaches another's todos."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from app.core.db import Connection
from app.users.repository import SIGNED_IN
from app.users.tokens import Claims


@dataclass(frozen=True)
class TodoRow:
    id: UUID
    title: str
    completed: bool
    order: int


@dataclass(frozen=True)
class Position:
    """Where a page ends: the sort key of its last row."""

    order: int
    id: UUID


_COLUMNS = 'id, title, completed, position AS "order"'

_LIST = f"""
SELECT {_COLUMNS} FROM todos WHERE user_id = %(user)s
ORDER BY position, id LIMIT %(limit)s
"""  # noqa: S608 - constants

_LIST_AFTER = f"""
SELECT {_COLUMNS} FROM todos
WHERE user_id = %(user)s AND (position, id) > (%(order)s::bigint, %(id)s::uuid)
ORDER BY position, id LIMIT %(limit)s
"""  # noqa: S608 - constants

# One statement decides whether the caller is signed in and reads the page. No row: not signed in;
# one without an id: no todos.
_CALLERS_LIST, _CALLERS_LIST_AFTER = (
    f"""
WITH caller AS ({SIGNED_IN})
SELECT page.* FROM caller
LEFT JOIN LATERAL ({page.replace("%(user)s", "caller.id")}) AS page ON true
ORDER BY page."order", page.id
"""  # noqa: S608 - constants
    for page in (_LIST, _LIST_AFTER)
)

_GET = f"SELECT {_COLUMNS} FROM todos WHERE user_id = %(user)s AND id = %(id)s"  # noqa: S608

# Two at once may get the same position; the id then decides, the same way every time.
_INSERT = f"""
INSERT INTO todos (user_id, title, position)
SELECT %(user)s, %(title)s, coalesce(
    %(order)s::bigint,
    (SELECT least(coalesce(max(position), 0) + 1, %(max_order)s)
     FROM todos WHERE user_id = %(user)s)
)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

# No column may become NULL, so NULL can stand for "as it is".
_UPDATE = f"""
UPDATE todos SET
    title = coalesce(%(title)s::text, title),
    completed = coalesce(%(completed)s::boolean, completed),
    position = coalesce(%(order)s::bigint, position),
    updated_at = now()
WHERE user_id = %(user)s AND id = %(id)s
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

_DELETE = "DELETE FROM todos WHERE user_id = %(user)s AND id = %(id)s"

_DELETE_MANY = """
DELETE FROM todos
WHERE user_id = %(user)s AND completed = coalesce(%(completed)s::boolean, completed)
"""


async def find_many(
    conn: Connection, user: UUID, after: Position | None, limit: int | None
) -> list[TodoRow]:
    arguments = {"user": user, **_page(after, limit)}
    async with conn.cursor(row_factory=class_row(TodoRow)) as cursor:
        await cursor.execute(_LIST if after is None else _LIST_AFTER, arguments)
        return await cursor.fetchall()


async def find_callers(
    conn: Connection, caller: Claims, after: Position | None, limit: int | None
) -> list[TodoRow] | None:
    """None: the caller is not signed in any more."""
    arguments = {"user": caller.user, "token": caller.id, **_page(after, limit)}
    async with conn.cursor(row_factory=class_row(TodoRow)) as cursor:
        await cursor.execute(_CALLERS_LIST if after is None else _CALLERS_LIST_AFTER, arguments)
        rows = await cursor.fetchall()
    if not rows:
        return None
    return [] if rows[0].id is None else rows


def _page(after: Position | None, limit: int | None) -> dict[str, Any]:
    return {"limit": limit} | ({"order": after.order, "id": after.id} if after else {})


async def find(conn: Connection, user: UUID, todo: UUID) -> TodoRow | None:
    async with conn.cursor(row_factory=class_row(TodoRow)) as cursor:
        await cursor.execute(_GET, {"user": user, "id": todo})
        return await cursor.fetchone()


async def insert(
    conn: Connection, user: UUID, title: str, order: int | None, max_order: int
) -> TodoRow:
    async with conn.cursor(row_factory=class_row(TodoRow)) as cursor:
        await cursor.execute(
            _INSERT, {"user": user, "title": title, "order": order, "max_order": max_order}
        )
        row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    return row


async def update(
    conn: Connection, user: UUID, todo: UUID, changes: dict[str, Any]
) -> TodoRow | None:
    unchanged = {"title": None, "completed": None, "order": None}
    async with conn.cursor(row_factory=class_row(TodoRow)) as cursor:
        await cursor.execute(_UPDATE, unchanged | changes | {"user": user, "id": todo})
        return await cursor.fetchone()


async def delete(conn: Connection, user: UUID, todo: UUID) -> bool:
    cursor = await conn.execute(_DELETE, {"user": user, "id": todo})
    return cursor.rowcount == 1


async def delete_many(conn: Connection, user: UUID, completed: bool | None) -> int:
    cursor = await conn.execute(_DELETE_MANY, {"user": user, "completed": completed})
    return cursor.rowcount
