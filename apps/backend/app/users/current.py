"""The current user, for endpoints of other domains."""

from typing import Annotated

from fastapi import Depends, Header, Request, Response

from app.core.dependencies import from_state
from app.core.problems import not_signed_in, other_user
from app.users.credential import COOKIE, credential, set_cookie
from app.users.repository import Account
from app.users.service import Accounts
from app.users.tokens import Claims

# For OpenAPI: what credential() reads. FastAPI's own classes would run with each request.
SCHEMES = {
    "bearer": {
        "type": "http",
        "description": "The token of a session, for clients",
        "scheme": "bearer",
        "bearerFormat": "JWT",
    },
    "cookie": {
        "type": "apiKey",
        "description": "The same token, for browsers; the name has the port, as in"
        " todo_8080_session. A change needs the header Origin too",
        "in": "cookie",
        "name": COOKIE,
    },
}

CurrentAccounts = Annotated[Accounts, from_state("accounts")]

ActsFor = Annotated[
    str | None, Header(description="The user that the caller acts for; 409 if another is signed in")
]


def check_user(claims: Claims, x_todo_user: str | None) -> None:
    """Checks the page's user: tabs share one cookie, and a page may predate the last sign-in."""
    if x_todo_user not in {None, str(claims.user)}:
        raise other_user()


async def current_claims(
    request: Request, response: Response, x_todo_user: ActsFor = None
) -> Claims:
    """Returns the token's content. For statements that check the revocation themselves."""
    accounts: Accounts = request.app.state.accounts
    shown = credential(request)
    claims = accounts.claims(shown.token) if shown is not None else None
    if claims is None:
        raise not_signed_in()
    check_user(claims, x_todo_user)
    if shown is not None and shown.from_cookie and claims.is_due:
        # Not in an answer that reports the end of the session.
        set_cookie(request, response, accounts.renew(claims))
    return claims


CurrentClaims = Annotated[Claims, Depends(current_claims)]


async def current_user(accounts: CurrentAccounts, claims: CurrentClaims) -> Account:
    account = await accounts.who(claims)
    if account is None:
        raise not_signed_in()
    return account


CurrentUser = Annotated[Account, Depends(current_user)]
