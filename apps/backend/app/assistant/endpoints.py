"""The assistant over HTTP; its answers are streams of events."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request

from app.assistant import failures
from app.assistant.schemas import (
    CONFIRMATION_ID,
    Confirmation,
    Conversation,
    Decision,
    Message,
    Question,
)
from app.assistant.service import Assistant
from app.assistant.stream import EventStream
from app.core.dependencies import from_state
from app.core.problems import responses
from app.users.current import CurrentUser

router = APIRouter(prefix="/assistant", tags=["assistant"])

# OpenAPI 3.1 cannot describe the events of a stream. Tools use the schema for each event.
EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["text", "tool", "confirmation", "error", "done"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
    "additionalProperties": False,
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, each with one line of JSON as its data:"
        ' `text` {"delta"}, `tool` {"name", "touched"}, `confirmation` {"id", "question", "todos",'
        ' "expires_at"}, and at the end `done` {"message_id"} or `error` (a problem). A question'
        " to be confirmed is answered at `/assistant/confirmations/{confirmation_id}`",
        "content": {
            "text/event-stream": {
                "schema": EVENT,
                "example": 'event: text\ndata: {"delta": "Milk is on your list."}\n\n'
                'event: done\ndata: {"message_id": "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10"}\n\n',
            }
        },
    }
}
FAILURES = (
    422,
    503,
    failures.busy(),
    failures.not_configured(),
    failures.key_refused(),
    failures.tokens_used_up(900),
    failures.rate_limited(failures.DEFAULT_RETRY_SECONDS),
    failures.timed_out(),
    failures.too_long(),
)


CurrentAssistant = Annotated[Assistant, from_state("assistant")]


@router.get("", responses=responses(503))
async def get_conversation(user: CurrentUser, assistant: CurrentAssistant) -> Conversation:
    """Returns the conversation, and whether the assistant is on."""
    messages, waiting = await assistant.history(user.id)
    model = assistant.model
    return Conversation(
        available=model is not None,
        model=model,
        messages=[Message.model_validate(row, from_attributes=True) for row in messages],
        confirmation=None if waiting is None else Confirmation.of(waiting),
    )


@router.delete("", status_code=204, responses=responses(503))
async def forget_conversation(user: CurrentUser, assistant: CurrentAssistant) -> None:
    await assistant.forget(user.id)


@router.post(
    "",
    status_code=200,
    response_class=EventStream,
    responses=STREAM | responses(*FAILURES),
)
async def ask(
    request: Request, body: Question, user: CurrentUser, assistant: CurrentAssistant
) -> EventStream:
    """Sends a message to the assistant, which may read and change the user's todos."""
    run = await assistant.ask(user.id, body.message, request.url.path, resume=body.resume)
    return EventStream(run)


@router.post(
    "/confirmations/{confirmation_id}",
    status_code=200,
    response_class=EventStream,
    responses=STREAM
    | responses(*FAILURES, failures.already_answered(), failures.nothing_to_answer()),
)
async def confirm(
    request: Request,
    confirmation_id: Annotated[UUID, Path(examples=[CONFIRMATION_ID])],
    body: Decision,
    user: CurrentUser,
    assistant: CurrentAssistant,
) -> EventStream:
    """Answers a confirmation; the assistant then continues."""
    run = await assistant.answer(user.id, confirmation_id, request.url.path, approve=body.approve)
    return EventStream(run)
