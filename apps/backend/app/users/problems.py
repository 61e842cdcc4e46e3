"""401 problem for missing or expired sessions, and 409 for those of another user."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg.errors import ForeignKeyViolation

from app.core.problems import ProblemError, problem_response

CODE = "not-signed-in"
DETAIL = "Sign in first: there is no session, or it has ended."
HEADERS = {"WWW-Authenticate": "Bearer"}


def not_signed_in() -> ProblemError:
    return ProblemError(401, CODE, DETAIL, HEADERS)


def other_user() -> ProblemError:
    return ProblemError(409, "other-user", "Another user has signed in.")


def install_user_problems(app: FastAPI) -> None:
    async def account_is_gone(request: Request, _: ForeignKeyViolation) -> JSONResponse:
        # All that can be missing for a row is its user: deleted since the request began.
        return problem_response(request.url.path, 401, CODE, DETAIL, headers=HEADERS)

    app.exception_handler(ForeignKeyViolation)(account_is_gone)
