"""Every error is an RFC 9457 problem (application/problem+json)."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.core.db import DatabaseUnavailableError
from app.core.dberrors import Kind
from app.core.logging import request_id
from app.core.urls import path_pattern

MEDIA_TYPE = "application/problem+json"
CODE = "^[a-z]+(-[a-z]+)*$"  # one spelling, because clients compare these
MAX_BODY_BYTES = 64 * 1024
SIGN_IN = {"WWW-Authenticate": "Bearer"}
RETRY_AFTER_SECONDS = 2
LASTING_RETRY_AFTER_SECONDS = 30  # what only its owner can mend

_UNAVAILABLE = (
    "database-unavailable",
    "The database is not answering. Try again in a few seconds.",
)
_BUSY = "database-busy", "The database is overloaded. Try again in a few seconds."
_QUOTA = "database-quota-exceeded", "A limit of the database's provider is reached."
_REFUSED = "database-refused", "The database refuses this application. Its operator must fix that."
RETRY_SOON = frozenset({_UNAVAILABLE[0], _BUSY[0]})
_DATABASE_PROBLEMS = {
    Kind.TOO_MANY_CONNECTIONS: _BUSY,
    Kind.BUSY: _BUSY,
    Kind.QUOTA_EXCEEDED: _QUOTA,
    Kind.WRONG_PASSWORD: _REFUSED,
    Kind.NO_SUCH_DATABASE: _REFUSED,
    Kind.ENDPOINT_REFUSED: _REFUSED,
    Kind.TLS_REFUSED: _REFUSED,
}


class FieldError(BaseModel):
    location: str = Field(description="body, path, query or header", examples=["body"])
    pointer: str = Field(description="JSON Pointer to the value", examples=["/title"])
    detail: str = Field(examples=["String should have at least 1 character"])


class Problem(BaseModel):
    type: str = Field(default="about:blank", description="about:blank: the status says it all")
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The request is not valid; see errors."])
    code: str = Field(
        description="For programs; stays as it is", examples=["validation"], pattern=CODE
    )
    instance: str = Field(examples=["/api/v1/todos"])
    request_id: str | None = Field(default=None, description="The same as in X-Request-ID")
    retry_after: int | None = Field(default=None, description="Seconds; as in Retry-After")
    errors: list[FieldError] | None = Field(default=None, description="Only with code validation")


class ProblemError(Exception):
    """Answers the request with a problem when raised."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


def problem_response(
    path: str, error: ProblemError, errors: list[FieldError] | None = None
) -> JSONResponse:
    return as_response(describe(path, error, errors), error.headers)


def as_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the answer with a problem; `headers` are added to Retry-After."""
    if problem.retry_after is not None:
        headers = {**(headers or {}), "Retry-After": str(problem.retry_after)}
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, headers=headers, media_type=MEDIA_TYPE)


def describe(path: str, error: ProblemError, errors: list[FieldError] | None = None) -> Problem:
    """Returns the problem as an object, for errors inside an event stream."""
    seconds = (error.headers or {}).get("Retry-After")
    return Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        code=error.code,
        instance=path,
        request_id=request_id.get(),
        retry_after=None if seconds is None else int(seconds),
        errors=errors,
    )


def unavailable_database(error: DatabaseUnavailableError) -> ProblemError:
    """Returns 503 with Retry-After. The code names the cause; its text is only for the log."""
    code, detail = _DATABASE_PROBLEMS.get(error.cause.kind, _UNAVAILABLE)
    seconds = RETRY_AFTER_SECONDS if code in RETRY_SOON else LASTING_RETRY_AFTER_SECONDS
    return ProblemError(503, code, detail, {"Retry-After": str(seconds)})


bad_request = partial(ProblemError, 400, "bad-request")
not_signed_in = partial(
    ProblemError,
    401,
    "not-signed-in",
    "Sign in first: there is no session, or it has ended.",
    SIGN_IN,
)
other_user = partial(ProblemError, 409, "other-user", "Another user has signed in.")
body_too_large = partial(
    ProblemError, 413, "body-too-large", f"The body may have at most {MAX_BODY_BYTES} bytes."
)
invalid_request = partial(ProblemError, 422, "validation", "The request is not valid; see errors.")
internal_error = partial(
    ProblemError,
    500,
    "internal-error",
    "Something went wrong. The server's log has the details under this request_id.",
)


def foreign_origin(own: str = "this site", given: str = "nothing") -> ProblemError:
    return ProblemError(
        403,
        "foreign-origin",
        f"A change with the session cookie needs the header Origin: {own}, but it is {given}. If a"
        " proxy shows this site there, add it to config.allowedOrigins in the chart's values"
        " (ALLOWED_ORIGINS). Clients other than browsers send Authorization: Bearer.",
    )


def not_found(path: str = "this path") -> ProblemError:
    return ProblemError(404, "not-found", f"There is nothing at {path}.")


type Described = dict[int | str, dict[str, Any]]

_EXAMPLES = {
    example.status: example
    for example in (
        bad_request("There was an error parsing the body"),
        not_signed_in(),
        foreign_origin(),
        not_found(),
        other_user(),
        body_too_large(),
        invalid_request(),
        ProblemError(503, *_UNAVAILABLE),
    )
}
_HEADERS = {
    401: {"WWW-Authenticate": ("How to sign in", "Bearer")},
    429: {"Retry-After": ("Seconds until the next attempt", "900")},
    503: {"Retry-After": ("Seconds until it is worth another try", "2")},
}
_FIELD_ERROR = FieldError(
    location="body", pointer="/title", detail="String should have at least 1 character"
)


def responses(*problems: int | ProblemError) -> Described:
    """Returns a route's problems for OpenAPI; a status stands for its usual problem."""
    described: Described = {}
    for problem in problems:
        example = _EXAMPLES[problem] if isinstance(problem, int) else problem
        answer = described.setdefault(
            example.status, {"model": Problem, "content": {MEDIA_TYPE: {"examples": {}}}}
        )
        if example.status in _HEADERS:
            answer |= headers(example.status, _HEADERS[example.status])[example.status]
        answer["content"][MEDIA_TYPE]["examples"][example.code] = {"value": _value(example)}
    return described


def headers(status: int, described: Mapping[str, tuple[str, str]]) -> Described:
    """Returns the descriptions of an answer's headers, with examples, for OpenAPI."""
    return {
        status: {
            "headers": {
                name: {"description": text, "schema": {"type": "string"}, "example": value}
                for name, (text, value) in described.items()
            }
        }
    }


def _value(example: ProblemError) -> dict[str, Any]:
    # app.core.openapi knows the path.
    problem = describe("", example, [_FIELD_ERROR] if example.code == "validation" else None)
    problem.request_id = "0f5ae1c6d2f84f0b8a4b2f7f6f1f8b5e"
    return problem.model_dump(exclude_none=True)


def install_problems(app: FastAPI) -> None:
    async def raised(request: Request, error: ProblemError) -> JSONResponse:
        return problem_response(request.url.path, error)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        path, headers = request.url.path, dict(error.headers or {})
        match error.status_code:
            case 404:
                problem = not_found(path)
            case 405:
                headers["Allow"] = allowed = _allowed_methods(app, path)
                detail = f"{request.method} is not allowed here. Use {allowed}."
                problem = ProblemError(405, "method-not-allowed", detail, headers)
            case 413:
                problem = body_too_large(headers)
            case status:
                problem = ProblemError(status, "bad-request", str(error.detail), headers)
        return problem_response(path, problem)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_field_error(item) for item in error.errors()]
        return problem_response(request.url.path, invalid_request(), errors)

    async def unavailable(request: Request, error: DatabaseUnavailableError) -> JSONResponse:
        return await raised(request, unavailable_database(error))

    app.exception_handler(ProblemError)(raised)
    app.exception_handler(HTTPException)(http)
    app.exception_handler(RequestValidationError)(invalid)
    app.exception_handler(DatabaseUnavailableError)(unavailable)


def _allowed_methods(app: FastAPI, path: str) -> str:
    """Returns all methods of the path; the framework names only those of the first route."""
    methods: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if path_pattern(template).fullmatch(path):
            methods |= {method.upper() for method in operations}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods)) or "GET"


def _field_error(item: Mapping[str, Any]) -> FieldError:
    # Without the rejected value, which may be long, secret or invalid text.
    location, *path = item["loc"] or ("body",)
    if item["type"] == "json_invalid":
        path = []
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return FieldError(location=str(location), pointer=pointer, detail=_clean(item["msg"]))


def _clean(message: str) -> str:
    return message.removeprefix("Value error, ").encode(errors="replace").decode()
