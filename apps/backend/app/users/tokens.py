"""Signed tokens (JWT, HS256): who, until when, and a name by which one can be revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt

LIFETIME = timedelta(days=7)
ISSUER = "todo-backend"
ALGORITHM = "HS256"


@dataclass(frozen=True)
class Claims:
    id: UUID
    user: UUID
    expires_at: datetime


class Tokens:
    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def issue(self, user: UUID) -> tuple[str, Claims]:
        now = datetime.now(UTC).replace(microsecond=0)
        claims = Claims(id=uuid4(), user=user, expires_at=now + LIFETIME)
        payload = {
            "iss": ISSUER,
            "sub": str(claims.user),
            "jti": str(claims.id),
            "iat": now,
            "exp": claims.expires_at,
        }
        return jwt.encode(payload, self._key, ALGORITHM), claims

    def read(self, token: str) -> Claims | None:
        """None unless it is ours, whole and not expired; why not is nobody's business."""
        try:
            payload = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],  # never what the token itself names
                issuer=ISSUER,
                options={
                    "require": ["iss", "sub", "jti", "iat", "exp"],
                    # The other replica's clock may be a moment ahead of ours.
                    "verify_iat": False,
                },
            )
            return Claims(
                id=UUID(payload["jti"]),
                user=UUID(payload["sub"]),
                expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            )
        except (jwt.InvalidTokenError, ValueError, OverflowError):
            return None
