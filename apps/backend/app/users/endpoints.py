"""Accounts and sessions over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.core.problems import headers, responses
from app.users.client import client_address
from app.users.credential import (
    clear_cookie,
    clear_known_cookie,
    credential,
    is_browser,
    known_cookie,
    set_cookie,
    set_known_cookie,
)
from app.users.current import ActsFor, CurrentAccounts, CurrentUser, check_user
from app.users.problems import (
    email_taken,
    too_busy,
    too_many_attempts,
    too_many_sign_ups,
    wrong_credentials,
    wrong_password,
)
from app.users.schemas import Credentials, Deletion, PasswordChange, Session, User
from app.users.service import SignedIn, account_bucket

_ATTRIBUTES = "HttpOnly; SameSite=lax; Path=/"
COOKIE_SET = {
    "Set-Cookie": (
        "The token, for browsers; Secure where they came by https",
        f"todo_8080_session=eyJhbGciOiJIUzI1NiIs…; Max-Age=604800; {_ATTRIBUTES}",
    )
}
COOKIE_CLEARED = {
    "Set-Cookie": ("Takes the cookie away", f'todo_8080_session=""; Max-Age=0; {_ATTRIBUTES}')
}
ACCOUNT_PLACE = {"Location": ("The account", "/api/v1/me")}

router = APIRouter(tags=["accounts"])


@router.post(
    "/users",
    status_code=201,
    response_model_exclude_none=True,
    responses=responses(email_taken(), too_many_sign_ups(8), 503, too_busy())
    | headers(201, COOKIE_SET | ACCOUNT_PLACE),
)
async def sign_up(
    request: Request, response: Response, body: Credentials, accounts: CurrentAccounts
) -> Session:
    """Creates an account and signs in."""
    made = await accounts.sign_up(
        body.email, body.password.get_secret_value(), client_address(request)
    )
    response.headers["Location"] = "/api/v1/me"
    return _answer(request, response, made)


@router.post(
    "/session",
    response_model_exclude_none=True,
    responses=responses(wrong_credentials(), too_many_attempts(8), 503, too_busy())
    | headers(200, COOKIE_SET),
)
async def sign_in(
    request: Request, response: Response, body: Credentials, accounts: CurrentAccounts
) -> Session:
    """Signs in. Clients get the token in the answer, browsers as a cookie."""
    known = request.cookies.get(known_cookie(request, account_bucket(body.email).key), "")
    made = await accounts.sign_in(
        body.email, body.password.get_secret_value(), client_address(request), known
    )
    return _answer(request, response, made)


@router.delete(
    "/session",
    status_code=204,
    openapi_extra={"security": [{}]},  # there is no session to end
    responses=responses(409, 503) | headers(204, COOKIE_CLEARED),
)
async def sign_out(
    request: Request,
    response: Response,
    accounts: CurrentAccounts,
    everywhere: Annotated[
        bool, Query(description="true: ends all sessions of the account")
    ] = False,
    x_todo_user: ActsFor = None,
) -> None:
    """Revokes the token and removes the cookie; succeeds also without them."""
    shown = credential(request)
    if shown is not None:
        if everywhere and (claims := accounts.claims(shown.token)) is not None:
            check_user(claims, x_todo_user)
        await accounts.sign_out(shown.token, everywhere=everywhere)
    clear_cookie(request, response)


@router.get("/me", responses=responses(503))
async def get_me(user: CurrentUser) -> User:
    return User(id=user.id, email=user.email, created_at=user.created_at)


@router.put(
    "/me/password",
    response_model_exclude_none=True,
    responses=responses(wrong_password(), too_many_attempts(8), 503, too_busy())
    | headers(200, COOKIE_SET),
)
async def change_password(
    request: Request,
    response: Response,
    body: PasswordChange,
    user: CurrentUser,
    accounts: CurrentAccounts,
) -> Session:
    """Changes the password, ends all sessions and returns a new one."""
    made = await accounts.change_password(
        user, body.password.get_secret_value(), body.new_password.get_secret_value()
    )
    return _answer(request, response, made)


@router.delete(
    "/me",
    status_code=204,
    responses=responses(wrong_password(), too_many_attempts(8), 503, too_busy())
    | headers(204, COOKIE_CLEARED),
)
async def delete_me(
    request: Request,
    response: Response,
    body: Deletion,
    user: CurrentUser,
    accounts: CurrentAccounts,
) -> None:
    """Deletes the account with all its data, immediately and permanently."""
    await accounts.delete(user, body.password.get_secret_value())
    clear_cookie(request, response)
    clear_known_cookie(request, response, account_bucket(user.email).key)


def _answer(request: Request, response: Response, made: SignedIn) -> Session:
    account = made.account
    set_cookie(request, response, made.token)
    set_known_cookie(request, response, account_bucket(account.email).key, made.known)
    return Session(
        token=None if is_browser(request) else made.token,
        expires_at=made.claims.expires_at,
        user=User(id=account.id, email=account.email, created_at=account.created_at),
    )
