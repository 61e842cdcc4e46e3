"""The layers below HTTP separate users."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from app.core.db import Database
from app.core.problems import ProblemError
from app.todos import service
from app.todos.repository import TodoRow
from app.todos.schemas import TodoCreate
from app.users.repository import LOCAL_USER_ID
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(server: Postgres) -> AsyncIterator[Database]:
    server.execute("TRUNCATE todos")
    database = Database(server.url())
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def other(server: Postgres) -> UUID:
    user = uuid4()
    server.execute(f"INSERT INTO users (id, email) VALUES ('{user}', '{user}@todo.invalid')")
    return user


async def add(database: Database, user: UUID, title: str) -> TodoRow:
    return await service.create_todo(database, user, TodoCreate(title=title), 10)


async def test_nobody_reaches_anothers_todos(database: Database, other: UUID) -> None:
    mine = await add(database, LOCAL_USER_ID, "mine")
    theirs = await add(database, other, "theirs")
    assert theirs.order == 1
    assert (await service.list_todos(database, other)).todos == [theirs]
    for attempt in (
        service.get_todo(database, other, mine.id),
        service.update_todo(database, other, mine.id, {"title": "stolen"}),
        service.delete_todo(database, other, mine.id),
    ):
        with pytest.raises(ProblemError, match="There is no todo"):
            await attempt
    assert await service.delete_todos(database, other) == [theirs.id]
    assert (await service.list_todos(database, LOCAL_USER_ID)).todos == [mine]


async def test_a_users_todos_go_with_the_user(
    server: Postgres, database: Database, other: UUID
) -> None:
    await add(database, other, "theirs")
    server.execute(f"DELETE FROM users WHERE id = '{other}'")
    assert (await service.list_todos(database, other)).todos == []
