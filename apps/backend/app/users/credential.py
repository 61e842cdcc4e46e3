"""The credential of a request: a Bearer token or the browser's cookie."""

import re
from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request, Response

from app.core.problems import foreign_origin
from app.core.settings import Settings
from app.core.urls import caller_origin
from app.users.service import Accounts
from app.users.tokens import KNOWN_FOR, LIFETIME

# Pods of the previous release know only this name. We also set it as long as such a pod can run,
# during a rollout or after a rollback.
COOKIE = "todo_session"
MOST_KNOWN = 5  # accounts per browser; servers reject more than 16 KB of headers
_KNOWN = re.compile(r"todo_([0-9]+_)?known_[0-9a-f]{8}_token")
_SESSION_OF_A_PORT = re.compile(r"todo_[0-9]+_session")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Credential:
    token: str
    from_cookie: bool


def credential(request: Request) -> Credential | None:
    """Returns the tokens. Authorization: Bearer wins over the cookie, even if invalid."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Credential(token.strip(), from_cookie=False)
    shown = _cookie_tokens(request)
    if len(shown) > 1:
        # The session is from a pod of the previous release, or from another port of this host.
        accounts: Accounts = request.app.state.accounts
        read = {token: accounts.claims(token) for token in shown}
        good = {token: claims.began_at for token, claims in read.items() if claims is not None}
        shown = [max(good, key=good.__getitem__)] if good else shown
    return Credential(shown[0], from_cookie=True) if shown else None


def _cookie_tokens(request: Request) -> list[str]:
    """Returns the tokens of this port's cookie and of COOKIE, unless another port set COOKIE."""
    names = (cookie_name(request), COOKIE)
    own, shared = (request.cookies.get(name, "") for name in names)
    ports = {token for name, token in request.cookies.items() if _SESSION_OF_A_PORT.fullmatch(name)}
    if shared in ports:
        shared = ""
    return [token for token in dict.fromkeys((own, shared)) if token]


def cookie_name(request: Request, what: str = "session") -> str:
    """Returns the cookie's name with the port, because browsers share cookies between ports."""
    port = caller_origin(request).rpartition(":")[2]
    return f"todo_{port}_{what}" if port.isdecimal() else f"todo_{what}"


def known_cookie(request: Request, account: str) -> str:
    """Returns the name of the account's cookie: several people may use one browser."""
    return cookie_name(request, f"known_{account[:8]}_token")


def set_cookie(request: Request, response: Response, token: str) -> None:
    for name in dict.fromkeys((cookie_name(request), COOKIE)):
        _set(request, response, name, token, LIFETIME)


def set_known_cookie(request: Request, response: Response, account: str, token: str) -> None:
    """Removes all but the newest cookies; browsers send the oldest first."""
    name = known_cookie(request, account)
    _set(request, response, name, token, KNOWN_FOR)
    others = [other for other in request.cookies if _KNOWN.fullmatch(other) and other != name]
    for other in others[: 1 - MOST_KNOWN]:
        _set(request, response, other)


def clear_known_cookie(request: Request, response: Response, account: str) -> None:
    _set(request, response, known_cookie(request, account))


def clear_cookie(request: Request, response: Response) -> None:
    for name in dict.fromkeys((cookie_name(request), COOKIE)):
        _set(request, response, name)


def is_browser(request: Request) -> bool:
    """Returns whether a browser sent the request; browsers send the Origin of writes."""
    return "origin" in request.headers or "sec-fetch-site" in request.headers


async def check_origin(request: Request) -> None:
    """Rejects cross-site requests, which browsers send with the cookie.

    A write without an Origin comes from a client that is not a browser and has no cookie. Other
    sites cannot send a Bearer token, and no page can change the browser's Sec-Fetch-Site.
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
        raise foreign_origin(own or "this site", (given or "nothing")[:200])


def _set(
    request: Request, response: Response, name: str, token: str = "", age: timedelta = timedelta()
) -> None:
    """Sets a cookie, or removes it without an age."""
    own, origin = caller_origin(request), request.headers.get("origin", "")
    settings: Settings = request.app.state.settings
    # A read has no Origin, so only the settings show that a tunnel terminates TLS.
    by_tunnel = not origin and own.lower().replace("http:", "https:", 1) in settings.origins
    secure = by_tunnel or "https" in {url.partition(":")[0] for url in (own, origin)}
    seconds = int(age.total_seconds())
    response.set_cookie(name, token, max_age=seconds, secure=secure, httponly=True, samesite="lax")
