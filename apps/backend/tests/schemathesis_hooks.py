"""Hooks of schemathesis, which runs in its own process: see test_schemathesis.py."""

import os
import re
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import schemathesis
from schemathesis import AuthContext, Case, HookContext

API = os.environ["SCHEMATHESIS_API"]
SIGNED_IN = os.environ["SCHEMATHESIS_SIGNED_IN"] == "yes"
CONFIRMATIONS = "/api/v1/assistant/confirmations/{confirmation_id}"
OWN_ACCOUNT = {
    ("delete", "/api/v1/me"),  # ends its session
    ("delete", "/api/v1/session"),
    ("put", "/api/v1/me/password"),
    ("post", CONFIRMATIONS),  # deletes its todos
}
KEY = "Idempotency-Key"
_numbers = count()


def new_token(email: str) -> str:
    account = {"email": email, "password": "not-a-secret passphrase"}
    answer = httpx.post(f"{API}/users", json=account, timeout=None)
    return str(answer.raise_for_status().json()["token"])


class Account:
    """One account for everything, and a new one for each request that would spoil it.

    Otherwise all that follows would be anonymous, for instance. The lasting one is that of the
    document's own example, which so can sign in.
    """

    _lasting = new_token("ada@example.com") if SIGNED_IN else ""

    def get(self, _: Case[Any], context: AuthContext) -> str:
        operation = (context.operation.method.lower(), context.operation.full_path)
        if operation in OWN_ACCOUNT:
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
    # Generated versions and users are never the right ones, and then nothing else is tried.
    if "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    case.headers.pop("X-Todo-User", None)


@schemathesis.hook("before_call")
def ask_what_is_to_be_confirmed(_: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """An ID of a question cannot be guessed, and no answer but a stream tells it."""
    asked = case.operation.full_path == CONFIRMATIONS and _is_id(case.path_parameters)
    if SIGNED_IN and asked and "Authorization" in case.headers:
        case.path_parameters["confirmation_id"] = _new_question(case.headers["Authorization"])


def _is_id(parameters: dict[str, Any]) -> bool:
    try:
        return bool(UUID(str(parameters.get("confirmation_id"))))
    except ValueError:
        return False


def _new_question(authorization: str) -> str:
    with httpx.Client(
        base_url=API, headers={"Authorization": authorization}, timeout=None
    ) as client:
        for title in ("milk", "bread"):
            made = client.post("/todos", json={"title": title})
            if made.status_code == httpx.codes.UNAUTHORIZED:
                return str(uuid4())  # the token is one of those that are tried because they are bad
            made.raise_for_status()
        stream = client.post("/assistant", json={"message": "delete all"}).raise_for_status().text
    found = re.search(r'event: confirmation\ndata: {"id":"([0-9a-f-]{36})"', stream)
    assert found is not None, stream
    return found[1]
