"""Each problem with an account or a session, once."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg.errors import ForeignKeyViolation

from app.core.limits import refusal
from app.core.problems import ProblemError, problem_response

CODE = "not-signed-in"
DETAIL = "Sign in first: there is no session, or it has ended."
HEADERS = {"WWW-Authenticate": "Bearer"}


def not_signed_in() -> ProblemError:
    return ProblemError(401, CODE, DETAIL, HEADERS)


def other_user() -> ProblemError:
    return ProblemError(409, "other-user", "Another user has signed in.")


def email_taken() -> ProblemError:
    detail = "This email has an account already. Sign in instead."
    return ProblemError(409, "email-taken", detail)


def wrong_credentials() -> ProblemError:
    return ProblemError(401, "wrong-credentials", "Email or password is wrong.", HEADERS)


def wrong_password() -> ProblemError:
    return ProblemError(403, "wrong-password", "This is not the password of the account.")


def too_many_attempts(seconds: int) -> ProblemError:
    return refusal("too-many-attempts", "Too many passwords were wrong", seconds)


def too_many_sign_ups(seconds: int) -> ProblemError:
    return refusal("too-many-sign-ups", "Too many accounts were made from here", seconds)


def too_busy() -> ProblemError:
    detail = "Too many sign-ins right now. Try again in a few seconds."
    return ProblemError(503, "too-busy", detail, {"Retry-After": "2"})


def install_user_problems(app: FastAPI) -> None:
    async def account_is_gone(request: Request, _: ForeignKeyViolation) -> JSONResponse:
        # All that can be missing for a row is its user: deleted since the request began.
        return problem_response(request.url.path, 401, CODE, DETAIL, headers=HEADERS)

    app.exception_handler(ForeignKeyViolation)(account_is_gone)
