"""Requests and answers of the API."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.core.texts import DESCRIBED, WITHOUT_NUL

MAX_TITLE = 500
MAX_PAGE = 500
MAX_ORDER = 2**53 - 1  # every JSON implementation represents it exactly

# In examples
TODO_ID = "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
TODO_URL = f"http://localhost:8080/api/v1/todos/{TODO_ID}"


def _whole(order: object) -> object:
    """Accepts 1.0, which is the integer 1 in JSON."""
    return int(order) if isinstance(order, float) and order.is_integer() else order


Title = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=MAX_TITLE),
    WITHOUT_NUL,
    DESCRIBED,
    Field(examples=["Buy milk"]),
]
# The validator comes last; otherwise OpenAPI would show the bounds in an invalid form.
Order = Annotated[
    int,
    Field(strict=True, ge=-MAX_ORDER, le=MAX_ORDER, examples=[1], description="Sorts the list"),
    BeforeValidator(_whole),
]
Completed = Annotated[bool, Field(strict=True, examples=[True])]


class TodoCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title
    order: Order | None = Field(default=None, description="Default: after all others")


class TodoUpdate(BaseModel):
    """Absent fields stay unchanged; null is rejected.

    The factories' values are never used: they make a field optional without allowing null and
    without showing a default in OpenAPI.
    """

    model_config = ConfigDict(extra="forbid")

    title: Title = Field(default_factory=str)
    completed: Completed = Field(default_factory=bool)
    order: Order = Field(default_factory=int)

    def changes(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class TodosUpdate(BaseModel):
    """Changes that apply to all todos."""

    model_config = ConfigDict(extra="forbid")

    completed: Completed


class Todo(BaseModel):
    id: UUID = Field(examples=[TODO_ID])
    title: Title
    completed: bool = Field(examples=[False])
    order: int = Field(examples=[1])
    version: int = Field(
        description="Grows with every change; quoted, it is the ETag", examples=[1764170454123456]
    )
    url: str = Field(description="Absolute, as the caller reaches it", examples=[TODO_URL])
