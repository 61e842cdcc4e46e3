"""The conditions for a valid token."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self
from unittest import mock
from uuid import uuid4

import jwt
import pytest

from app.users.tokens import Tokens
from tests.conftest import AUTH_SECRET


def payload(**changes: object) -> dict[str, object]:
    now = datetime.now(UTC)
    good = {
        "iss": "todo-backend",
        "sub": str(uuid4()),
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + timedelta(minutes=1),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def read(claims: dict[str, object], key: str = AUTH_SECRET, algorithm: str = "HS256") -> object:
    return Tokens(AUTH_SECRET).read(jwt.encode(claims, key, algorithm))


def test_what_was_issued_is_read() -> None:
    user = uuid4()
    token, claims = Tokens(AUTH_SECRET).issue(user)
    assert Tokens(AUTH_SECRET).read(token) == claims
    assert claims.user == user
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert set(jwt.decode(token, options={"verify_signature": False})) == {
        "iss", "sub", "jti", "iat", "exp",
    }  # fmt: skip
    assert Tokens(AUTH_SECRET).issue(user)[1].id != claims.id


def test_a_good_payload_is_read_so_that_what_follows_means_something() -> None:
    assert read(payload()) is not None
    # The other replica's clock may be ahead.
    assert read(payload(iat=datetime.now(UTC) + timedelta(seconds=5))) is not None


def test_a_token_is_verified_once_and_refused_once_it_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode = mock.Mock(wraps=jwt.decode)
    monkeypatch.setattr("app.users.tokens.jwt.decode", decode)
    tokens = Tokens(AUTH_SECRET)
    token, claims = tokens.issue(uuid4())
    forged = f"{token[:-8]}AAAAAAAA"
    assert [tokens.read(token), tokens.read(token), tokens.read(forged)] == [claims, claims, None]
    assert tokens.read(forged) is None
    assert decode.call_count == 3

    class InEightDays(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=8)

    monkeypatch.setattr("app.users.tokens.datetime", InEightDays)
    assert tokens.read(token) is None


@pytest.mark.parametrize("claim", ["iss", "sub", "jti", "iat", "exp"])
def test_every_claim_is_required(claim: str) -> None:
    assert read(payload(**{claim: None})) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": datetime.now(UTC) - timedelta(seconds=1)},
        {"exp": "soon"},
        {"exp": 10**30},
        {"iss": "somebody-else"},
        {"sub": "not-a-uuid"},
        {"jti": "not-a-uuid"},
        {"sub": 5},
        {"nbf": datetime.now(UTC) + timedelta(days=1)},
    ],
)
def test_a_claim_that_is_no_good(changes: dict[str, object]) -> None:
    assert read(payload(**changes)) is None


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_no_other_algorithm_even_with_our_key(algorithm: str) -> None:
    assert read(payload(), algorithm=algorithm) is None


def test_no_other_key() -> None:
    assert read(payload(), key="not-a-secret-of-thirty-two-bytes!") is None


def test_no_signature_at_all() -> None:
    assert Tokens(AUTH_SECRET).read(jwt.encode(payload(), "", "none")) is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "ä.ö.ü", "\x00", "e30.e30.", "x" * 9000])
def test_what_is_no_token(token: str) -> None:
    assert Tokens(AUTH_SECRET).read(token) is None
