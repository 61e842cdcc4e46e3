"""Addresses: the one under which the caller reached us, and templates of paths."""

import re

from fastapi import Request

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def caller_origin(request: Request) -> str:
    """Scheme, host and port for absolute links.

    The headers are the caller's word, and the answer goes to the caller alone (never cached), so
    believing them harms nobody; they only must not smuggle anything else into a link.
    """
    scheme = _first(request.headers.get("x-forwarded-proto")).lower()
    if scheme not in {"http", "https"}:
        scheme = request.url.scheme
    for host in (_first(request.headers.get("x-forwarded-host")), request.headers.get("host", "")):
        if _HOST.fullmatch(host):
            return f"{scheme}://{host}"
    return ""  # a relative link still leads here


def _first(value: str | None) -> str:
    """Each proxy appends its own; the first one is what the caller used."""
    return (value or "").split(",")[0].strip()


def path_pattern(template: str) -> re.Pattern[str]:
    """What a template as `/todos/{todo_id}` matches."""
    literals = re.split(r"\{[^}]*\}", template)
    return re.compile("[^/]+".join(map(re.escape, literals)))
