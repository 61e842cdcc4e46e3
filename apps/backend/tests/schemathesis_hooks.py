"""How schemathesis asks: read by its own process, see test_schemathesis.py."""

import os
import re
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from schemathesis import AuthContext, Case, HookContext

API = os.environ["SCHEMATHESIS_API"]
SIGNED_IN = os.environ["SCHEMATHESIS_SIGNED_IN"] == "yes"
ENDS_ITS_SESSION = {("delete", "/api/v1/me"), ("delete", "/api/v1/session")}
KEY = "Idempotency-Key"
_numbers = count()


def new_token(email: str) -> str:
    account = {"email": email, "password": "not-a-secret passphrase"}
    answer = httpx.post(f"{API}/users", json=account, timeout=20)
    return str(answer.raise_for_status().json()["token"])


class Account:
    """One account for everything, and a new one for each request that ends a session.

    Otherwise all that follows would be anonymous. The lasting one is that of the document's own
    example, which so can sign in.
    """

    _lasting = new_token("ada@example.com") if SIGNED_IN else ""

    def get(self, _: Case[Any], context: AuthContext) -> str:
        operation = (context.operation.method.lower(), context.operation.full_path)
        if operation in ENDS_ITS_SESSION:
            return new_token(f"{uuid4().hex}@todo.test")
        return self._lasting

    def set(self, case: Case[Any], token: str, _: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {token}"


if SIGNED_IN:
    schemathesis.auth(refresh_interval=None)(Account)


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Generated keys repeat themselves, and a key that came with another body is refused."""
    if re.fullmatch(r"[!-~]{1,255}", str(case.headers.get(KEY, ""))):
        case.headers[KEY] = f"key-{next(_numbers)}"
