"""The SQL. Every statement names the user, so nobody can access another user's todos."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.core.connections import Connection
from app.todos.schemas import MAX_ORDER
from app.users.repository import SIGNED_IN
from app.users.tokens import Claims


@dataclass(frozen=True)
class TodoRow:
    id: UUID
    title: str
    completed: bool
    order: int
    version: int
    created_at: datetime | None = None


@dataclass(frozen=True)
class Position:
    """The end of a page: the sort key of its last row."""

    order: int
    id: UUID


# In microseconds: every JSON implementation represents these exactly.
_VERSION = "(extract(epoch FROM updated_at) * 1000000)::bigint"
_COLUMNS = f'id, title, completed, position AS "order", {_VERSION} AS version, created_at'
# Increases with every change, independent of the clock and of the order of transactions.
_NOW = "greatest(clock_timestamp(), updated_at + interval '1 microsecond')"
# NULL: any version.
_UNCHANGED = f"(%(versions)s::bigint[] IS NULL OR {_VERSION} = ANY(%(versions)s))"

# Concurrent inserts may get the same position; the older todo comes first. The first condition uses
# the index. If the last todo of a page was deleted, the next page may repeat todos of its position.
_AFTER = """
AND position >= %(order)s::bigint AND (position, created_at, id) > (
    %(order)s::bigint,
    coalesce((SELECT created_at FROM todos WHERE id = %(id)s), '-infinity'),
    %(id)s::uuid
)
"""
_NAMED = "AND id = ANY(%(ids)s)"

_GET = f"""
SELECT {_COLUMNS} FROM todos WHERE user_id = %(user)s AND id = %(id)s AND {_UNCHANGED}
"""  # noqa: S608 - constants

POSITION = """coalesce(%(order)s::bigint, (
    SELECT least(coalesce(max(position), 0) + 1, %(max_order)s) FROM todos WHERE user_id = %(user)s
))"""
HAS_ROOM = "(SELECT count(*) FROM todos WHERE user_id = %(user)s) < %(quota)s"
_INSERT = f"""
INSERT INTO todos (user_id, title, position)
SELECT %(user)s, %(title)s, {POSITION} WHERE {HAS_ROOM}
RETURNING {_COLUMNS}
"""

# No column may become NULL, so NULL can stand for "unchanged".
_UPDATE = f"""
UPDATE todos SET
    title = coalesce(%(title)s::text, title),
    completed = coalesce(%(completed)s::boolean, completed),
    position = coalesce(%(order)s::bigint, position),
    updated_at = {_NOW}
WHERE user_id = %(user)s AND id = %(id)s AND {_UNCHANGED}
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

_UPDATE_MANY = f"""
UPDATE todos SET completed = %(completed)s, updated_at = {_NOW}
WHERE user_id = %(user)s AND completed <> %(completed)s
"""  # noqa: S608 - constants

_DELETE = f"""
DELETE FROM todos WHERE user_id = %(user)s AND id = %(id)s AND {_UNCHANGED}
"""  # noqa: S608 - constants

_DELETE_MANY = """
DELETE FROM todos
WHERE user_id = %(user)s AND completed = coalesce(%(completed)s::boolean, completed)
AND (
    (%(ids)s::uuid[] IS NULL AND %(unchanged_for)s::interval IS NULL)
    OR id = ANY(%(ids)s::uuid[])
    OR updated_at <= clock_timestamp() - %(unchanged_for)s::interval
)
RETURNING id
"""


async def find_many(
    conn: Connection, user: UUID, after: Position | None, limit: int
) -> list[TodoRow]:
    arguments = {"user": user, **_page(after, limit)}
    return await conn.fetch(TodoRow, _list(after), arguments)


async def find_callers(
    conn: Connection,
    caller: Claims,
    after: Position | None,
    limit: int,
    ids: list[UUID] | None,
) -> list[TodoRow] | None:
    """Returns None if the caller's session has ended."""
    # One statement checks the session and reads the page. No row: not signed in. A row without an
    # id: no todos.
    statement = f"""
    WITH caller AS ({SIGNED_IN})
    SELECT page.* FROM caller
    LEFT JOIN LATERAL ({_list(after, ids).replace("%(user)s", "caller.id")}) AS page ON true
    ORDER BY page."order", page.created_at, page.id
    """  # noqa: S608 - constants
    arguments = {**caller.arguments, "ids": ids, **_page(after, limit)}
    rows = await conn.fetch(TodoRow, statement, arguments)
    if not rows:
        return None
    return [] if rows[0].id is None else rows


def _list(after: Position | None, ids: list[UUID] | None = None) -> str:
    return f"""
    SELECT {_COLUMNS} FROM todos WHERE user_id = %(user)s
    {"" if after is None else _AFTER} {"" if ids is None else _NAMED}
    ORDER BY position, created_at, id LIMIT %(limit)s
    """  # noqa: S608 - constants


def _page(after: Position | None, limit: int) -> dict[str, Any]:
    return {"limit": limit} | ({"order": after.order, "id": after.id} if after else {})


async def find(
    conn: Connection, user: UUID, todo: UUID, versions: list[int] | None = None
) -> TodoRow | None:
    return await conn.fetch_one(TodoRow, _GET, {"user": user, "id": todo, "versions": versions})


async def insert(
    conn: Connection, user: UUID, title: str, order: int | None, quota: int
) -> TodoRow | None:
    """Adds a todo. Returns None if the user already has `quota` todos."""
    values = {"title": title, "order": order, "max_order": MAX_ORDER, "quota": quota}
    return await conn.fetch_one(TodoRow, _INSERT, {"user": user, **values})


async def update(
    conn: Connection, user: UUID, todo: UUID, changes: dict[str, Any], versions: list[int] | None
) -> TodoRow | None:
    unchanged = {"title": None, "completed": None, "order": None}
    named = {"user": user, "id": todo, "versions": versions}
    return await conn.fetch_one(TodoRow, _UPDATE, unchanged | changes | named)


async def update_many(conn: Connection, user: UUID, *, completed: bool) -> None:
    await conn.execute(_UPDATE_MANY, {"user": user, "completed": completed})


async def delete(conn: Connection, user: UUID, todo: UUID, versions: list[int] | None) -> bool:
    cursor = await conn.execute(_DELETE, {"user": user, "id": todo, "versions": versions})
    return cursor.rowcount == 1


async def delete_many(
    conn: Connection,
    user: UUID,
    completed: bool | None,
    unchanged_for: timedelta | None,
    ids: list[UUID] | None,
) -> list[UUID]:
    bounds = {"completed": completed, "unchanged_for": unchanged_for, "ids": ids}
    cursor = await conn.execute(_DELETE_MANY, {"user": user, **bounds})
    return [row["id"] for row in await cursor.fetchall()]
