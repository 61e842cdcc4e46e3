"""The arguments of the tools. The model reads each docstring and description."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.todos import cursor
from app.todos.repository import Position
from app.todos.schemas import MAX_TITLE

MAX_LISTED = 100
MAX_DELETED = 100  # by one call

Id = Annotated[UUID, Field(description="Id of the todo, from list_todos")]


class _Arguments(BaseModel):
    # Models often send null for arguments that they do not use.
    model_config = ConfigDict(extra="ignore")


class ListTodos(_Arguments):
    """List the user's todos in their order, all or only those that match."""

    completed: bool | None = Field(None, description="true: only completed, false: only open ones")
    search: str | None = Field(None, max_length=100, description="Only titles that contain this")
    limit: int = Field(50, ge=1, le=MAX_LISTED, description="At most so many")
    after: str | None = Field(
        None,
        pattern=cursor.PATTERN,
        description="Continue a list: the `next` of the result before",
    )

    def matches(self, title: str, *, completed: bool) -> bool:
        return self.completed in {None, completed} and (
            not self.search or self.search.casefold() in title.casefold()
        )

    def position(self) -> Position | None:
        return None if self.after is None else cursor.decode(self.after)


class AddTodo(_Arguments):
    """Add one todo at the end of the list."""

    title: str = Field(description=f"1 to {MAX_TITLE} characters")


class UpdateTodo(_Arguments):
    """Change a todo's title, or whether it is completed."""

    id: Id
    title: str | None = Field(None, description=f"New title, 1 to {MAX_TITLE} characters")
    completed: bool | None = Field(None, description="false opens a completed todo again")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.changes():
            raise ValueError("give title, completed or both")
        return self

    def changes(self) -> dict[str, Any]:
        return self.model_dump(include={"title", "completed"}, exclude_none=True)


class CompleteTodo(_Arguments):
    """Mark a todo as completed."""

    id: Id


class DeleteTodos(_Arguments):
    """Delete todos. Name all that are to go in one call: the user then confirms once."""

    ids: list[Id] = Field(min_length=1, max_length=MAX_DELETED)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Returns JSON Schema without pydantic's generated titles, which only cost tokens."""
    schema = model.model_json_schema()
    for definition in schema["properties"].values():
        definition.pop("title", None)
    return {
        "type": "object",
        "properties": schema["properties"],
        "required": schema.get("required", []),
    }
