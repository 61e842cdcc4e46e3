"""Signed tokens (JWT, HS256) with user, expiry, and an ID for revocation."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt

LIFETIME = timedelta(days=7)
RENEWED_AFTER = timedelta(days=1)
KNOWN_FOR = timedelta(days=365)
KEPT = 1000  # verified tokens in memory
ISSUER = "todo-backend"
KNOWN_ISSUER = "todo-backend known client"
ALGORITHM = "HS256"


@dataclass(frozen=True)
class Claims:
    id: UUID
    user: UUID
    expires_at: datetime
    began_at: datetime

    @property
    def arguments(self) -> dict[str, object]:
        """Arguments for the statement that checks the session."""
        return {"user": self.user, "token": self.id, "began_at": self.began_at}

    @property
    def is_due(self) -> bool:
        return self.expires_at - datetime.now(UTC) < LIFETIME - RENEWED_AFTER


@dataclass(frozen=True)
class Known:
    name: str
    began_at: datetime


class Tokens:
    def __init__(self, secret: str) -> None:
        self._key = secret.encode()
        # A client sends the same token with each request. Keeps no token that raises an error.
        self._verified = lru_cache(KEPT)(self._verify)

    def issue(
        self, user: UUID, began_at: datetime | None = None, session: UUID | None = None
    ) -> tuple[str, Claims]:
        now = datetime.now(UTC)
        ends = now.replace(microsecond=0) + LIFETIME
        claims = Claims(session or uuid4(), user, ends, began_at or now)
        payload = {
            "iss": ISSUER,
            "sub": str(claims.user),
            "jti": str(claims.id),
            # In microseconds, to end all sessions that began before a point in time.
            "iat": claims.began_at.timestamp(),
            "exp": claims.expires_at,
        }
        return jwt.encode(payload, self._key, ALGORITHM), claims

    def read(self, token: str) -> Claims | None:
        """Returns None unless the token is ours, intact and not expired. Gives no reason."""
        try:
            claims = self._verified(token)
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError):
            return None
        return claims if datetime.now(UTC) < claims.expires_at else None

    def _verify(self, token: str) -> Claims:
        payload = self._decode(token, ISSUER)
        return Claims(
            id=UUID(payload["jti"]),
            user=UUID(payload["sub"]),
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            began_at=datetime.fromtimestamp(payload["iat"], UTC),
        )

    def issue_known(self, account: str, began_at: datetime, client: str | None = None) -> str:
        """Returns a token that marks a known client. It does not grant access."""
        payload = {
            "iss": KNOWN_ISSUER,
            "sub": account,
            "jti": client or uuid4().hex,
            "iat": began_at.timestamp(),
            "exp": began_at + KNOWN_FOR,
        }
        return jwt.encode(payload, self._key, ALGORITHM)

    def read_known(self, token: str, account: str) -> Known | None:
        try:
            payload = self._decode(token, KNOWN_ISSUER)
        except jwt.InvalidTokenError:
            return None
        if payload["sub"] != account:
            return None
        return Known(str(payload["jti"]), datetime.fromtimestamp(payload["iat"], UTC))

    def _decode(self, token: str, issuer: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            self._key,
            algorithms=[ALGORITHM],  # never the algorithm that the token names
            issuer=issuer,
            options={
                "require": ["iss", "sub", "jti", "iat", "exp"],
                # The other replica's clock may be slightly ahead.
                "verify_iat": False,
            },
        )
