"""What a request shows to say who it is from, and the cookie that browsers show."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from fastapi import Request, Response

from app.core.problems import ProblemError
from app.core.urls import caller_origin
from app.users.tokens import LIFETIME

COOKIE = "todo_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _CookieAttributes(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["lax"]


@dataclass(frozen=True)
class Credential:
    token: str
    from_cookie: bool


def credential(request: Request) -> Credential | None:
    """Authorization: Bearer wins over the cookie, even where it is no good."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Credential(token.strip(), from_cookie=False)
    if token := request.cookies.get(COOKIE, ""):
        return Credential(token, from_cookie=True)
    return None


def set_cookie(request: Request, response: Response, token: str) -> None:
    response.set_cookie(
        COOKIE, token, max_age=int(LIFETIME.total_seconds()), **_attributes(request)
    )


def clear_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(COOKIE, **_attributes(request))


async def check_origin(request: Request) -> None:
    """Refuses what another site made a browser send: a cookie comes along, whoever asks.

    Every browser names the origin of a write. A write without one is from a client that is no
    browser; it has no cookie. A Bearer token no other site can send.
    """
    if request.method in SAFE_METHODS:
        return
    shown = credential(request)
    if shown is not None and not shown.from_cookie:
        return
    given, own = request.headers.get("origin"), caller_origin(request)
    if given is None and shown is None:
        return
    if given is None or own == "" or given.lower() != own.lower():
        raise ProblemError(
            403,
            "foreign-origin",
            f"A change with the cookie must come from {own or 'this site'}, as its header Origin"
            " says. Clients that are no browser send Authorization: Bearer instead.",
        )


def _attributes(request: Request) -> _CookieAttributes:
    return {
        "path": "/",
        "secure": caller_origin(request).startswith("https:"),
        "httponly": True,
        "samesite": "lax",
    }
