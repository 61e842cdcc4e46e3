"""What the assistant's routes take and give, and the events of its streams."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from app.core.problems import Problem
from app.todos.schemas import TODO_ID

MAX_MESSAGE = 2000
MESSAGE_ID = "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10"  # in examples

type ToolName = Literal["list_todos", "add_todo", "update_todo", "complete_todo", "delete_todos"]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("Text cannot contain NUL")  # Postgres cannot store it
    return text


class Question(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"message": "Add milk and bread"}]}
    )

    message: Annotated[
        str,
        StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE),
        AfterValidator(_without_nul),
        Field(
            examples=["Add milk and bread"],
            description="Trimmed; any Unicode but NUL",
            json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
        ),
    ]


class Decision(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"approve": True}]})

    approve: Annotated[bool, Field(strict=True, examples=[True])]


class Message(BaseModel):
    id: UUID
    role: Literal["user", "assistant"]
    text: str = Field(examples=["Milk is on your list."])
    created_at: datetime
    touched: list[UUID] = Field(description="Todos that were changed on the way to this answer")


_MESSAGES: list[JsonValue] = [
    {
        "id": "7e6f1a3c-6a0f-4c9e-8b63-6d1f0a5b9c21",
        "role": "user",
        "text": "Add milk",
        "created_at": "2026-11-21T09:00:00Z",
        "touched": [],
    },
    {
        "id": MESSAGE_ID,
        "role": "assistant",
        "text": "Milk is on your list.",
        "created_at": "2026-11-21T09:00:02Z",
        "touched": [TODO_ID],
    },
]


class Conversation(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"available": True, "model": "gpt-5-mini", "messages": _MESSAGES}]
        }
    )

    available: bool = Field(description="false: no OPENAI_API_KEY is set")
    model: str | None = Field(examples=["gpt-5-mini"])
    messages: list[Message] = Field(description="Newest last; the last 100")


class Event(BaseModel):
    """One event of a stream: its name, and its data as one line of JSON."""

    name: ClassVar[str]

    def data(self) -> str:
        return self.model_dump_json(by_alias=True)


class TextEvent(Event):
    name = "text"

    delta: str = Field(examples=["Milk is "])


class ToolEvent(Event):
    name = "tool"

    tool: ToolName = Field(serialization_alias="name")
    touched: list[UUID] = Field(description="Todos that it changed")


class NamedTodo(BaseModel):
    id: UUID
    title: str


class ConfirmationEvent(Event):
    name = "confirmation"

    id: UUID
    question: str = Field(examples=["Delete these 2 todos?"])
    todos: list[NamedTodo]
    expires_at: datetime


class ErrorEvent(Event):
    name = "error"

    problem: Problem

    def data(self) -> str:
        return self.problem.model_dump_json(exclude_none=True)


class DoneEvent(Event):
    name = "done"

    message_id: UUID | None = Field(description="The answer in the history")
