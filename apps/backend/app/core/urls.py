"""URLs: the caller's address of this application, and path templates."""

import re

from fastapi import Request

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def caller_origin(request: Request) -> str:
    """Returns scheme, host and port for absolute links.

    The headers come from the caller. That is safe, because only the caller gets the answer, which
    is never cached. They must not be able to add anything else to a link.
    """
    scheme = _first(request.headers.get("x-forwarded-proto")).lower()
    if scheme not in {"http", "https"}:
        scheme = request.url.scheme
    for host in (_first(request.headers.get("x-forwarded-host")), request.headers.get("host", "")):
        if _HOST.fullmatch(host):
            return f"{scheme}://{host}"
    return ""  # a relative link still works


def _first(value: str | None) -> str:
    """Returns the first entry, which the caller used; each proxy appends its own."""
    return (value or "").split(",")[0].strip()


def path_pattern(template: str) -> re.Pattern[str]:
    """Returns a pattern for a path template like `/todos/{todo_id}`."""
    literals = re.split(r"\{[^}]*\}", template)
    return re.compile("[^/]+".join(map(re.escape, literals)))
