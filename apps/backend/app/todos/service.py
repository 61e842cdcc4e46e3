"""The operations on a user's todos, for the HTTP API and the assistant."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app.core.connections import Connection
from app.core.db import Database
from app.core.problems import ProblemError
from app.todos import idempotency, repository
from app.todos.idempotency import Once
from app.todos.repository import Position, TodoRow
from app.todos.schemas import MAX_PAGE, TodoCreate
from app.users.tokens import Claims


@dataclass(frozen=True)
class Page:
    todos: list[TodoRow]
    next: Position | None


async def list_todos(
    db: Database, user: UUID, *, after: Position | None = None, limit: int = MAX_PAGE
) -> Page:
    async with db.connection() as conn:
        return _page(await repository.find_many(conn, user, after, limit + 1), limit)


async def list_callers_todos(
    db: Database,
    caller: Claims,
    *,
    after: Position | None,
    limit: int,
    ids: list[UUID] | None = None,
) -> Page | None:
    """Returns a page of todos, or None if the session has ended.

    Most requests read the list, so one statement does both.
    """
    async with db.connection() as conn:
        rows = await repository.find_callers(conn, caller, after, limit + 1, ids)
    return None if rows is None else _page(rows, limit)


def _page(rows: list[TodoRow], limit: int) -> Page:
    """Makes a page from one extra row, which shows whether there is a next page."""
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], Position(last.order, last.id))


async def create_todo(db: Database, user: UUID, wanted: TodoCreate, quota: int) -> TodoRow:
    async with db.connection() as conn:
        row = await repository.insert(conn, user, wanted.title, wanted.order, quota)
    if row is None:
        raise too_many(quota)
    return row


def too_many(quota: int) -> ProblemError:
    detail = f"The limit of {quota} todos is reached. Delete some first."
    return ProblemError(409, "too-many-todos", detail)


key_reused = partial(
    ProblemError,
    422,
    "idempotency-key-reused",
    "This Idempotency-Key was used for another todo. Use a new key for a new todo.",
)


def not_found(todo: object) -> ProblemError:
    return ProblemError(404, "todo-not-found", f"There is no todo {todo}.")


def has_changed(todo: object) -> ProblemError:
    return ProblemError(412, "todo-changed", f"Todo {todo} has changed since that version.")


async def create_todo_once(
    db: Database, user: UUID, key: str, wanted: TodoCreate, quota: int
) -> Once:
    async with db.connection() as conn:
        once = await idempotency.insert_once(conn, user, key, wanted, quota)
    if once is None:
        raise too_many(quota)
    if not once.same_request:
        raise key_reused()
    return once


async def get_todo(db: Database, user: UUID, todo: UUID) -> TodoRow:
    async with db.connection() as conn:
        row = await repository.find(conn, user, todo)
        if row is None:
            raise await _missed(conn, user, todo)
        return row


async def update_todo(
    db: Database, user: UUID, todo: UUID, changes: dict[str, Any], versions: list[int] | None = None
) -> TodoRow:
    """Updates a todo. Raises ProblemError 412 if `versions` are given and none matches."""
    async with db.connection() as conn:
        if changes:
            row = await repository.update(conn, user, todo, changes, versions)
        else:
            row = await repository.find(conn, user, todo, versions)
        if row is None:
            raise await _missed(conn, user, todo)
        return row


async def update_todos(db: Database, user: UUID, *, completed: bool) -> None:
    async with db.connection() as conn:
        await repository.update_many(conn, user, completed=completed)


async def delete_todo(
    db: Database, user: UUID, todo: UUID, versions: list[int] | None = None
) -> None:
    """Deletes a todo. Raises ProblemError 412 like `update_todo`."""
    async with db.connection() as conn:
        if not await repository.delete(conn, user, todo, versions):
            raise await _missed(conn, user, todo)


async def delete_todos(
    db: Database,
    user: UUID,
    *,
    completed: bool | None = None,
    unchanged_for: timedelta | None = None,
    ids: list[UUID] | None = None,
) -> list[UUID]:
    """Deletes all todos, or only the completed or open ones. Returns their IDs.

    With `ids` or `unchanged_for`, deletes only the todos that match one of them.
    """
    async with db.connection() as conn:
        return await repository.delete_many(conn, user, completed, unchanged_for, ids)


async def _missed(conn: Connection, user: UUID, todo: UUID) -> ProblemError:
    is_there = await repository.find(conn, user, todo) is not None
    return has_changed(todo) if is_there else not_found(todo)
