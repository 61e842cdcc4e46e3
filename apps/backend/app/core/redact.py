"""Removes secrets from log entries.

Masks the secrets from the settings everywhere, also when URL-encoded or quoted. Our own code never
logs the secrets of users (passwords, tokens, cookies). Patterns mask those that a library quotes
in its messages.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"
MIN_SECRET_LENGTH = 4  # masking "a" would only make logs unreadable

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:)[^\s/@'\"]+@", re.IGNORECASE),
        rf"\1{MASK}@",
    ),
    # The scheme of an Authorization header with its value.
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    # A JWT, complete or without its signature.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(\.[\w-]+)?"), MASK),
    (re.compile(r"\bsk-[\w-]{12,}"), MASK),
    # password=…, "api_key": "…", 'set-cookie': '…', todo_session=…
    (
        re.compile(
            r"(?P<name>[\"']?\b[\w-]*(?:passw(?:or)?d|secret|api[_-]?key|token|cookie|session)[\"']?"
            r"(?:=|(?<=[\"'])\s*:\s*))(?:\"[^\"]*\"|'[^']*'|[^\s,;&}\"']+)",
            re.IGNORECASE,
        ),
        rf"\g<name>{MASK}",
    ),
)


class Redactor:
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET_LENGTH:
                quoted = {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
                forms |= {secret, quote(secret), quote(secret, safe="")} | quoted
        # Longest first: the URL before the password that it contains.
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def value(self, value: object) -> object:
        """Masks every text in a structure that becomes JSON."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(name)): self.value(item) for name, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case bool() | int() | float() | None:
                return value
            case _:
                return self.text(str(value))
