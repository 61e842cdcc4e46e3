"""The tools that the model may call: the service layer of the todos, for one user.

The model's arguments are untrusted: they pass the same checks as a request's body. The model gets
the error messages, so that it can correct its call.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError

from app.assistant import arguments as args
from app.assistant.answer import Call
from app.assistant.schemas import ToolName
from app.core.db import Database
from app.core.problems import ProblemError
from app.todos import cursor, service
from app.todos.repository import Position, TodoRow
from app.todos.schemas import TodoCreate, TodoUpdate

PAGE = 200
MAX_SCANNED = 5000  # todos per search
MAX_RESULT = 12_000  # characters per result


@dataclass(frozen=True)
class Held:
    """A pending change: more than one per answer needs the user's consent."""

    todo: UUID
    title: str  # the current todo
    changes: dict[str, Any] | None = None  # None: delete it

    def with_later(self, later: "Held") -> "Held":
        """Merges two changes of one todo; a deletion wins."""
        if self.changes is None or later.changes is None:
            return Held(self.todo, self.title)
        return Held(self.todo, self.title, self.changes | later.changes)


@dataclass
class Outcome:
    """The result of a call. Without `tool` the call failed, and `content` says why."""

    content: str
    tool: ToolName | None = None
    touched: list[UUID] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)  # the caller asks the user and then applies it


class Toolbox:
    def __init__(self, db: Database, user: UUID, quota: int) -> None:
        self._db, self._user, self._quota = db, user, quota
        self.added: list[str] = []  # titles that the answer added before the cut

    async def run(self, call: Call) -> Outcome:
        """Runs a call. Mistakes of the model raise nothing; outages DatabaseUnavailableError."""
        if call.name not in _TOOLS:
            return _refused(f"There is no such tool. There are: {', '.join(_TOOLS)}.")
        model, tool = _TOOLS[call.name]
        try:
            outcome = await tool(self, model.model_validate_json(call.arguments or "{}"))
        except ValidationError as error:
            return _refused(_explain(error))
        except ProblemError as error:
            return _refused(error.detail)
        outcome.tool = cast("ToolName", call.name)
        return outcome

    async def delete(self, todos: list[UUID]) -> list[UUID]:
        """Deletes the confirmed todos. Returns those that still existed."""
        gone = set(await service.delete_todos(self._db, self._user, ids=todos))
        return [todo for todo in todos if todo in gone]

    async def change(self, todo: UUID, changes: dict[str, Any]) -> bool:
        """Applies a confirmed change. Returns False if the todo no longer exists."""
        try:
            await service.update_todo(self._db, self._user, todo, changes)
        except ProblemError:
            return False
        return True

    async def list(self, wanted: args.ListTodos) -> Outcome:
        found: list[dict[str, Any]] = []
        position = wanted.position()
        room, scanned = MAX_RESULT, 0
        while scanned < MAX_SCANNED:
            page = await service.list_todos(self._db, self._user, after=position, limit=PAGE)
            for row in page.todos:
                scanned += 1
                if wanted.matches(row.title, completed=row.completed):
                    shown = _shown(row)
                    room -= len(row.title) + len(str(row.id)) + 40
                    if found and (room < 0 or len(found) == wanted.limit):
                        return _result(
                            {"todos": found, "next": position and cursor.encode(position)}
                        )
                    found.append(shown)
                position = Position(row.order, row.id)
            if page.next is None:
                return _result({"todos": found})
        return _result({"todos": found, "next": position and cursor.encode(position)})

    async def add(self, wanted: args.AddTodo) -> Outcome:
        todo = TodoCreate(title=wanted.title)
        if todo.title in self.added:
            self.added.remove(todo.title)
            return _result({"added before": todo.title})
        row = await service.create_todo(self._db, self._user, todo, self._quota)
        return _result({"added": _shown(row)}, row)

    async def update(self, wanted: args.UpdateTodo) -> Outcome:
        changes = TodoUpdate.model_validate(wanted.changes()).changes()
        if "title" not in changes:
            return await self._change(wanted.id, changes)
        row = await service.get_todo(self._db, self._user, wanted.id)
        if changes["title"] != row.title:
            return Outcome("", held=[Held(row.id, row.title, changes)])
        del changes["title"]
        if changes:
            return await self._change(wanted.id, changes)
        return _result({"unchanged": _shown(row)})

    async def complete(self, wanted: args.CompleteTodo) -> Outcome:
        return await self._change(wanted.id, {"completed": True})

    async def _change(self, todo: UUID, changes: dict[str, Any]) -> Outcome:
        row = await service.update_todo(self._db, self._user, todo, changes)
        return _result({"changed": _shown(row)}, row)

    async def find_for_deletion(self, wanted: args.DeleteTodos) -> Outcome:
        """Returns all todos or an error, so that the user confirms exactly the model's choice."""
        rows = [
            await service.get_todo(self._db, self._user, todo) for todo in dict.fromkeys(wanted.ids)
        ]
        return Outcome("", held=[Held(row.id, row.title) for row in rows])


def added_titles(steps: list[dict[str, Any]]) -> list[str]:
    """Returns the titles that these steps added."""
    results = (step["content"] for step in steps if step["role"] == "tool")
    return [json.loads(text)["added"]["title"] for text in results if text.startswith('{"added":')]


_TOOLS: dict[str, tuple[type[BaseModel], Callable[[Toolbox, Any], Awaitable[Outcome]]]] = {
    "list_todos": (args.ListTodos, Toolbox.list),
    "add_todo": (args.AddTodo, Toolbox.add),
    "update_todo": (args.UpdateTodo, Toolbox.update),
    "complete_todo": (args.CompleteTodo, Toolbox.complete),
    "delete_todos": (args.DeleteTodos, Toolbox.find_for_deletion),
}


def definitions() -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": model.__doc__,
                "parameters": args.schema_of(model),
            },
        }
        for name, (model, _) in _TOOLS.items()
    ]


def _shown(row: TodoRow) -> dict[str, Any]:
    return {"id": str(row.id), "title": row.title, "completed": row.completed}


def _result(content: dict[str, Any], *touched: TodoRow) -> Outcome:
    return Outcome(json.dumps(content, ensure_ascii=False), touched=[row.id for row in touched])


def _refused(reason: str) -> Outcome:
    return Outcome(json.dumps({"error": reason}, ensure_ascii=False))


def _explain(error: ValidationError) -> str:
    """Describes validation errors without the values, which may be long."""
    return "; ".join(
        ".".join(map(str, item["loc"])) + f": {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_input=False, include_context=False, include_url=False)
    )
