"""The problems of accounts. Those of every route are in app.core.problems."""

from functools import partial

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg.errors import ForeignKeyViolation

from app.core.limits import refusal
from app.core.problems import SIGN_IN, ProblemError, not_signed_in, problem_response

email_taken = partial(
    ProblemError, 409, "email-taken", "This email already has an account. Sign in instead."
)
wrong_credentials = partial(
    ProblemError, 401, "wrong-credentials", "Email or password is wrong.", SIGN_IN
)
wrong_password = partial(
    ProblemError, 403, "wrong-password", "This is not the password of the account."
)
too_many_attempts = partial(refusal, "too-many-attempts", "Too many passwords were wrong")
too_many_sign_ups = partial(refusal, "too-many-sign-ups", "Too many accounts were made from here")
too_busy = partial(
    ProblemError,
    503,
    "too-busy",
    "Too many sign-ins right now. Try again in a few seconds.",
    {"Retry-After": "2"},
)


def install_user_problems(app: FastAPI) -> None:
    async def account_is_gone(request: Request, _: ForeignKeyViolation) -> JSONResponse:
        # The only foreign key is the user, who was deleted after the request began.
        return problem_response(request.url.path, not_signed_in())

    app.exception_handler(ForeignKeyViolation)(account_is_gone)
