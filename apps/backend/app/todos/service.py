"""What can be done with a user's todos, whoever asks: the HTTP API now, others later."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core.db import Database
from app.core.problems import ProblemError
from app.todos import idempotency, repository
from app.todos.repository import Position, TodoRow
from app.todos.schemas import MAX_ORDER
from app.users.tokens import Claims


@dataclass(frozen=True)
class Page:
    todos: list[TodoRow]
    next: Position | None


async def list_todos(
    db: Database, user: UUID, *, after: Position | None = None, limit: int | None = None
) -> Page:
    async with db.connection() as conn:
        return _page(await repository.find_many(conn, user, after, _one_more(limit)), limit)


async def list_callers_todos(
    db: Database, caller: Claims, *, after: Position | None = None, limit: int | None = None
) -> Page | None:
    """None: the caller is not signed in any more.

    The list is what most requests ask for, so one statement does both.
    """
    async with db.connection() as conn:
        rows = await repository.find_callers(conn, caller, after, _one_more(limit))
    return None if rows is None else _page(rows, limit)


def _one_more(limit: int | None) -> int | None:
    """One more than asked for tells whether there is a next page."""
    return None if limit is None else limit + 1


def _page(rows: list[TodoRow], limit: int | None) -> Page:
    if limit is None or len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], Position(last.order, last.id))


async def create_todo(db: Database, user: UUID, title: str, order: int | None = None) -> TodoRow:
    async with db.connection() as conn:
        return await repository.insert(conn, user, title, order, MAX_ORDER)


async def create_todo_once(
    db: Database, user: UUID, key: str, title: str, order: int | None = None
) -> tuple[TodoRow, bool]:
    """The todo, and whether it was made by an earlier request with the same key."""
    async with db.connection() as conn:
        once = await idempotency.insert_once(conn, user, key, title, order)
    if not once.same_request:
        raise ProblemError(
            422,
            "idempotency-key-reused",
            "This Idempotency-Key came with another todo before; take a new key for a new todo.",
        )
    return once.todo, once.replayed


async def get_todo(db: Database, user: UUID, todo: UUID) -> TodoRow:
    async with db.connection() as conn:
        return _found(await repository.find(conn, user, todo), todo)


async def update_todo(db: Database, user: UUID, todo: UUID, changes: dict[str, Any]) -> TodoRow:
    if not changes:
        return await get_todo(db, user, todo)
    async with db.connection() as conn:
        return _found(await repository.update(conn, user, todo, changes), todo)


async def delete_todo(db: Database, user: UUID, todo: UUID) -> None:
    async with db.connection() as conn:
        if not await repository.delete(conn, user, todo):
            raise _not_found(todo)


async def delete_todos(db: Database, user: UUID, *, completed: bool | None = None) -> int:
    """All of them, or only the completed (or only the open) ones."""
    async with db.connection() as conn:
        return await repository.delete_many(conn, user, completed)


def _found(row: TodoRow | None, todo: UUID) -> TodoRow:
    if row is None:
        raise _not_found(todo)
    return row


def _not_found(todo: UUID) -> ProblemError:
    return ProblemError(404, "todo-not-found", f"There is no todo {todo}.")
