"""Accounts and sessions over HTTP."""

from fastapi import APIRouter, Request, Response

from app.core.problems import Example, headers, responses
from app.users.client import client_address
from app.users.credential import COOKIE, clear_cookie, credential, set_cookie
from app.users.current import SECURITY, CurrentAccounts, CurrentUser
from app.users.schemas import Credentials, Session, User
from app.users.service import SignedIn

EMAIL_TAKEN = Example(409, "email-taken", "This email has an account already. Sign in instead.")
WRONG_CREDENTIALS = Example(401, "wrong-credentials", "Email or password is wrong.")
TOO_MANY_ATTEMPTS = Example(
    429, "too-many-attempts", "Too many attempts to sign in failed; try again in 900 s."
)
TOO_BUSY = Example(503, "too-busy", "Too many people sign in at this moment; try again shortly.")

_ATTRIBUTES = "HttpOnly; SameSite=lax; Path=/"
COOKIE_SET = {
    "Set-Cookie": (
        "The token, for browsers; Secure where they came by https",
        f"{COOKIE}=eyJhbGciOiJIUzI1NiIs…; Max-Age=604800; {_ATTRIBUTES}",
    )
}
COOKIE_CLEARED = {"Set-Cookie": ("Takes the cookie away", f'{COOKIE}=""; Max-Age=0; {_ATTRIBUTES}')}
ACCOUNT_PLACE = {"Location": ("The account", "/api/v1/me")}

router = APIRouter(tags=["accounts"])


@router.post(
    "/users",
    status_code=201,
    responses=responses(EMAIL_TAKEN, 503, TOO_BUSY) | headers(201, COOKIE_SET | ACCOUNT_PLACE),
)
async def sign_up(
    request: Request, response: Response, body: Credentials, accounts: CurrentAccounts
) -> Session:
    """Makes an account and signs in to it."""
    made = await accounts.sign_up(body.email, body.password.get_secret_value())
    response.headers["Location"] = "/api/v1/me"
    return _answer(request, response, made)


@router.post(
    "/session",
    responses=responses(WRONG_CREDENTIALS, TOO_MANY_ATTEMPTS, 503, TOO_BUSY)
    | headers(200, COOKIE_SET),
)
async def sign_in(
    request: Request, response: Response, body: Credentials, accounts: CurrentAccounts
) -> Session:
    """A token, for clients in the answer and for browsers as a cookie."""
    made = await accounts.sign_in(
        body.email, body.password.get_secret_value(), client_address(request)
    )
    return _answer(request, response, made)


@router.delete(
    "/session",
    status_code=204,
    dependencies=SECURITY,
    openapi_extra={"security": [{}]},  # no session to end is as good
    responses=responses(503) | headers(204, COOKIE_CLEARED),
)
async def sign_out(request: Request, response: Response, accounts: CurrentAccounts) -> None:
    """Revokes the token and takes the cookie away; also without any."""
    shown = credential(request)
    if shown is not None:
        await accounts.sign_out(shown.token)
    clear_cookie(request, response)


@router.get("/me", responses=responses(503))
async def get_me(user: CurrentUser) -> User:
    return User(id=user.id, email=user.email, created_at=user.created_at)


@router.delete("/me", status_code=204, responses=responses(503) | headers(204, COOKIE_CLEARED))
async def delete_me(
    request: Request, response: Response, user: CurrentUser, accounts: CurrentAccounts
) -> None:
    """Deletes the account and everything that is its own, at once and for good."""
    await accounts.delete(user)
    clear_cookie(request, response)


def _answer(request: Request, response: Response, made: SignedIn) -> Session:
    set_cookie(request, response, made.token)
    account = made.account
    return Session(
        token=made.token,
        expires_at=made.claims.expires_at,
        user=User(id=account.id, email=account.email, created_at=account.created_at),
    )
