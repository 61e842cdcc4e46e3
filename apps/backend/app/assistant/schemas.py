"""Requests and answers of the assistant's routes, and the events of its streams."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.assistant.repository import ConfirmationRow
from app.core.problems import Problem
from app.core.texts import DESCRIBED, WITHOUT_NUL
from app.todos.schemas import TODO_ID

MAX_MESSAGE = 2000
# In examples
MESSAGE_ID = "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10"
CONFIRMATION_ID = "c1f4d7a2-3b5e-4f60-8a91-2d3c4b5a6f70"

type ToolName = Literal["list_todos", "add_todo", "update_todo", "complete_todo", "delete_todos"]


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message: Annotated[
        str,
        StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE),
        WITHOUT_NUL,
        DESCRIBED,
        Field(examples=["Add milk and bread"]),
    ]
    resume: bool = Field(
        False,
        strict=True,
        description="Continue the answer to this message if it is the last one and was cut",
    )


class Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    approve: Annotated[bool, Field(strict=True, examples=[True])]


class Message(BaseModel):
    id: UUID = Field(examples=[MESSAGE_ID])
    role: Literal["user", "assistant"] = Field(examples=["assistant"])
    text: str = Field(examples=["Milk is on your list."])
    created_at: datetime = Field(examples=["2026-11-21T09:00:02Z"])
    touched: list[UUID] = Field(description="Todos that this answer changed", examples=[[TODO_ID]])


class NamedTodo(BaseModel):
    id: UUID = Field(examples=[TODO_ID])
    title: str = Field(examples=["Milk"])
    new_title: str | None = Field(None, description="null: the todo is to be deleted")
    completed: bool | None = Field(None, description="The new state; null: unchanged")


class Confirmation(BaseModel):
    """Changes that need the user's confirmation."""

    id: UUID = Field(examples=[CONFIRMATION_ID])
    question: str = Field(examples=["Delete this todo?"])
    todos: list[NamedTodo]
    expires_at: datetime = Field(
        description="End of the time to answer", examples=["2026-11-21T09:10:02Z"]
    )

    @classmethod
    def of(cls, row: ConfirmationRow) -> Self:
        todos = [NamedTodo.model_validate(todo) for todo in row.todos]
        question = question_about(todos)
        return cls(id=row.id, question=question, todos=todos, expires_at=row.expires_at)


def question_about(todos: list[NamedTodo]) -> str:
    renamed = sum(todo.new_title is not None for todo in todos)
    verb = "Rename" if renamed == len(todos) else "Change" if renamed else "Delete"
    return f"{verb} these {len(todos)} todos?" if len(todos) != 1 else f"{verb} this todo?"


class Conversation(BaseModel):
    available: bool = Field(description="false: no OPENAI_API_KEY is set", examples=[True])
    model: str | None = Field(examples=["gpt-5-mini"])
    messages: list[Message] = Field(description="Newest last; the last 100")
    confirmation: Confirmation | None = Field(
        description="The open question at the end of the newest message",
        examples=[None],
    )


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


class ConfirmationEvent(Confirmation, Event):
    name = "confirmation"


class ErrorEvent(Event):
    name = "error"

    problem: Problem

    def data(self) -> str:
        return self.problem.model_dump_json(exclude_none=True)


class DoneEvent(Event):
    name = "done"

    message_id: UUID | None = Field(description="The answer in the history")
