"""The Todo-Backend contract over HTTP."""

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response

from app.core.dependencies import CurrentDatabase, CurrentSettings
from app.core.problems import headers, not_signed_in, responses
from app.core.urls import caller_origin
from app.todos import cursor, service
from app.todos.repository import TodoRow
from app.todos.schemas import MAX_PAGE, TODO_ID, TODO_URL, Todo, TodoCreate, TodosUpdate, TodoUpdate
from app.users.current import CurrentClaims, CurrentUser

MAX_NAMED = 100
MAX_AGE = 100 * 365 * 86_400_000  # longer than a page stays open; no overflow in Postgres

NOT_FOUND, CHANGED = service.not_found(TODO_ID), service.has_changed(TODO_ID)
LINK = {
    "Link": (
        "The next page, if there is one",
        "<http://localhost:8080/api/v1/todos?limit=50&after=1_0b4e6f0e5f0e4f6e9a436a2f6a0f3c55>;"
        ' rel="next"',
    )
}
ETAG = {"ETag": ("The todo's version, for If-Match", '"1764170454123456"')}
CREATED = ETAG | {
    "Location": ("The todo's url", TODO_URL),
    "Idempotency-Replayed": ("Only where this is an earlier request's answer", "true"),
}

TodoId = Annotated[UUID, Path(examples=[TODO_ID])]
IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the change is based on; 412 if the todo has changed since",
        examples=['"1764170454123456"'],
    ),
]

router = APIRouter(prefix="/todos", tags=["todos"])


@router.get("", responses=responses(503) | headers(200, LINK))
async def list_todos(  # noqa: PLR0913, PLR0917 - what FastAPI injects
    request: Request,
    response: Response,
    db: CurrentDatabase,
    caller: CurrentClaims,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    after: Annotated[
        str | None,
        Query(
            pattern=cursor.PATTERN,
            description="Continues a list; taken from the Link header of the page before",
        ),
    ] = None,
    ids: Annotated[
        list[UUID] | None,
        Query(alias="id", max_length=MAX_NAMED, description="Only these todos"),
    ] = None,
) -> list[Todo]:
    """Returns a page of todos in order. The Link header leads to the next page."""
    collection = _collection(request)
    page = await service.list_callers_todos(
        db, caller, after=cursor.decode(after) if after else None, limit=limit, ids=ids
    )
    if page is None:
        raise not_signed_in()
    if page.next is not None:
        named = {"id": ids} if ids else {}
        query = urlencode({"limit": limit, "after": cursor.encode(page.next), **named}, doseq=True)
        response.headers["Link"] = f'<{collection}?{query}>; rel="next"'
    return [_render(collection, row) for row in page.todos]


@router.post(
    "",
    status_code=201,
    responses=responses(422, service.key_reused(), service.too_many(50_000), 503)
    | headers(201, CREATED),
)
async def create_todo(  # noqa: PLR0913, PLR0917 - what FastAPI injects
    request: Request,
    response: Response,
    body: TodoCreate,
    db: CurrentDatabase,
    settings: CurrentSettings,
    user: CurrentUser,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[!-~]{1,255}$",
            description="With the same key and the same todo again within 24 hours: the first"
            " answer, and no second todo",
            examples=["5c0b0a3e-9f0a-4d7b-8d8e-3f6f2f0c1a77"],
        ),
    ] = None,
) -> Todo:
    """Adds an open todo."""
    quota = settings.todos_per_user
    row: TodoRow
    if idempotency_key is None:
        row = await service.create_todo(db, user.id, body, quota)
    else:
        row = once = await service.create_todo_once(db, user.id, idempotency_key, body, quota)
        if once.replayed:
            response.headers["Idempotency-Replayed"] = "true"
    todo = _answer(request, response, row)
    response.headers["Location"] = todo.url
    return todo


@router.patch("", status_code=204, responses=responses(503))
async def update_todos(body: TodosUpdate, db: CurrentDatabase, user: CurrentUser) -> None:
    """Changes all todos at once."""
    await service.update_todos(db, user.id, completed=body.completed)


@router.delete("", status_code=204, responses=responses(503))
async def delete_todos(
    db: CurrentDatabase,
    user: CurrentUser,
    completed: Annotated[
        bool | None, Query(description="true: only completed ones. Default: all of them")
    ] = None,
    unchanged_for: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_AGE,
            description="Only todos that have not changed for so many milliseconds",
        ),
    ] = None,
    ids: Annotated[
        list[UUID] | None,
        Query(
            alias="id",
            max_length=MAX_NAMED,
            description="Only these, and those that unchanged_for allows",
        ),
    ] = None,
) -> None:
    age = None if unchanged_for is None else timedelta(milliseconds=unchanged_for)
    await service.delete_todos(db, user.id, completed=completed, unchanged_for=age, ids=ids)


@router.get("/{todo_id}", responses=responses(NOT_FOUND, 503) | headers(200, ETAG))
async def get_todo(
    request: Request, response: Response, todo_id: TodoId, db: CurrentDatabase, user: CurrentUser
) -> Todo:
    return _answer(request, response, await service.get_todo(db, user.id, todo_id))


@router.patch("/{todo_id}", responses=responses(NOT_FOUND, CHANGED, 503) | headers(200, ETAG))
async def update_todo(  # noqa: PLR0913, PLR0917 - what FastAPI injects
    request: Request,
    response: Response,
    todo_id: TodoId,
    body: TodoUpdate,
    db: CurrentDatabase,
    user: CurrentUser,
    if_match: IfMatch = None,
) -> Todo:
    versions = _versions(if_match)
    row = await service.update_todo(db, user.id, todo_id, body.changes(), versions)
    return _answer(request, response, row)


@router.delete("/{todo_id}", status_code=204, responses=responses(NOT_FOUND, CHANGED, 503))
async def delete_todo(
    todo_id: TodoId, db: CurrentDatabase, user: CurrentUser, if_match: IfMatch = None
) -> None:
    await service.delete_todo(db, user.id, todo_id, _versions(if_match))


def _versions(if_match: str | None) -> list[int] | None:
    """Returns the versions in If-Match; None: any. A weak ETag matches no version."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [re.fullmatch(r'"([0-9]{1,16})"', tag.strip()) for tag in if_match.split(",")]
    return [int(tag[1]) for tag in tags if tag]


def _answer(request: Request, response: Response, row: TodoRow) -> Todo:
    response.headers["ETag"] = f'"{row.version}"'
    return _render(_collection(request), row)


def _collection(request: Request) -> str:
    return caller_origin(request) + "/api/v1/todos"


def _render(collection: str, row: TodoRow) -> Todo:
    return Todo(
        id=row.id,
        title=row.title,
        completed=row.completed,
        order=row.order,
        version=row.version,
        url=f"{collection}/{row.id}",
    )
