"""What a request shows to say who it is from, and the cookie that browsers show."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from fastapi import Request, Response

from app.core.problems import ProblemError
from app.core.settings import Settings
from app.core.urls import caller_origin
from app.users.tokens import KNOWN_FOR, LIFETIME

COOKIE = "todo_session"  # without a port, and of the release before this one
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
    for name in (cookie_name(request), COOKIE):
        if token := request.cookies.get(name, ""):
            return Credential(token, from_cookie=True)
    return None


def cookie_name(request: Request, what: str = "session") -> str:
    """With the port: what is set on one port of a host goes to all of them."""
    port = caller_origin(request).rpartition(":")[2]
    return f"todo_{port}_{what}" if port.isdecimal() else f"todo_{what}"


def known_cookie(request: Request, account: str) -> str:
    """One for each account: a browser may serve several people."""
    return cookie_name(request, f"known_{account[:8]}_token")


def set_cookie(request: Request, response: Response, token: str) -> None:
    age = int(LIFETIME.total_seconds())
    response.set_cookie(cookie_name(request), token, max_age=age, **_attributes(request))


def set_known_cookie(request: Request, response: Response, account: str, token: str) -> None:
    name, age = known_cookie(request, account), int(KNOWN_FOR.total_seconds())
    response.set_cookie(name, token, max_age=age, **_attributes(request))


def clear_cookie(request: Request, response: Response) -> None:
    for name in {cookie_name(request), *({COOKIE} & request.cookies.keys())}:
        response.delete_cookie(name, **_attributes(request))


def is_browser(request: Request) -> bool:
    """Every browser names the origin of a write."""
    return "origin" in request.headers or "sec-fetch-site" in request.headers


async def check_origin(request: Request) -> None:
    """Refuses what another site made a browser send: a cookie comes along, whoever asks.

    A write without an origin is from a client that is no browser; it has no cookie. A Bearer token
    no other site can send, and no page can change what the browser says in Sec-Fetch-Site.
    """
    if request.method in SAFE_METHODS or request.headers.get("sec-fetch-site") == "same-origin":
        return
    shown = credential(request)
    if shown is not None and not shown.from_cookie:
        return
    given, own = request.headers.get("origin"), caller_origin(request)
    if given is None and shown is None:
        return
    settings: Settings = request.app.state.settings
    if given is None or given.lower() not in {own.lower(), *settings.origins} - {""}:
        raise ProblemError(
            403,
            "foreign-origin",
            f"A change with the cookie must come from {own or 'this site'}, and its header Origin"
            f" says {(given or 'nothing')[:200]}. If that is how a proxy shows this site, add it to"
            " config.allowedOrigins in the chart's values (ALLOWED_ORIGINS). Clients that are no"
            " browser send Authorization: Bearer instead.",
        )


def _attributes(request: Request) -> _CookieAttributes:
    return {
        "path": "/",
        "secure": "https"
        in {
            caller_origin(request).partition(":")[0],
            request.headers.get("origin", "").partition(":")[0],
        },
        "httponly": True,
        "samesite": "lax",
    }
