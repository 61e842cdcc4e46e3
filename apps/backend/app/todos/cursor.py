"""The cursor of a list as text: the position of the last todo on the page."""

from uuid import UUID

from app.todos.repository import Position
from app.todos.schemas import MAX_ORDER

PATTERN = r"^-?[0-9]{1,16}_[0-9a-f]{32}$"


def encode(position: Position) -> str:
    return f"{position.order}_{position.id.hex}"


def decode(text: str) -> Position:
    order, _, todo = text.partition("_")
    return Position(max(-MAX_ORDER, min(int(order), MAX_ORDER)), UUID(todo))
