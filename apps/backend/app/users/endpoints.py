"""Accounts and sessions over HTTP."""

from fastapi import APIRouter, Request, Response

from app.core.problems import responses
from app.users.client import client_address
from app.users.credential import clear_cookie, credential, set_cookie
from app.users.current import SECURITY, CurrentAccounts, CurrentUser
from app.users.schemas import Credentials, Session, User
from app.users.service import SignedIn

router = APIRouter(tags=["accounts"])


@router.post("/users", status_code=201, responses=responses(403, 409, 413, 422, 503))
async def sign_up(
    request: Request, response: Response, body: Credentials, accounts: CurrentAccounts
) -> Session:
    """Makes an account and signs in to it."""
    made = await accounts.sign_up(body.email, body.password.get_secret_value())
    response.headers["Location"] = "/api/v1/me"
    return _answer(request, response, made)


@router.post("/session", responses=responses(401, 403, 413, 422, 429, 503))
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
    responses=responses(403, 503),
)
async def sign_out(request: Request, response: Response, accounts: CurrentAccounts) -> None:
    """Revokes the token and takes the cookie away; also without any."""
    shown = credential(request)
    if shown is not None:
        await accounts.sign_out(shown.token)
    clear_cookie(request, response)


@router.get("/me", responses=responses(401, 503))
async def get_me(user: CurrentUser) -> User:
    return User(id=user.id, email=user.email, created_at=user.created_at)


@router.delete("/me", status_code=204, responses=responses(401, 403, 503))
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
