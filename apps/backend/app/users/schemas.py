"""What the accounts' API takes and gives."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic.config import JsonDict
from pydantic.functional_validators import AfterValidator

MAX_EMAIL = 254  # RFC 5321: what fits into a path of 256 with its brackets
MIN_PASSWORD = 8
MAX_PASSWORD = 128

# Whether an address exists is for a mail server to say; this only keeps out what cannot be one.
_NO_SPACE = r"[^\s@\x00-\x1f\x7f-\x9f]+"

_USER: JsonDict = {
    "id": "8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11",
    "email": "ada@example.com",
    "created_at": "2026-11-21T09:00:00Z",
}


def _without_nul(password: SecretStr) -> SecretStr:
    if "\0" in password.get_secret_value():
        raise ValueError("A password cannot contain NUL")
    return password


Email = Annotated[
    str,
    StringConstraints(
        strict=True,
        strip_whitespace=True,
        to_lower=True,
        min_length=3,
        max_length=MAX_EMAIL,
        pattern=f"^{_NO_SPACE}@{_NO_SPACE}$",
    ),
    Field(description="Trimmed and lower-cased", examples=["ada@example.com"]),
]
Password = Annotated[
    SecretStr,
    Field(
        min_length=MIN_PASSWORD,
        max_length=MAX_PASSWORD,
        description="Any Unicode but NUL, taken as it is",
        examples=["not-a-secret passphrase"],
        json_schema_extra={"pattern": r"^[^\x00]*$"},
    ),
    AfterValidator(_without_nul),
]


class Credentials(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"email": "ada@example.com", "password": "not-a-secret passphrase"}]
        },
    )

    email: Email
    password: Password


class Deletion(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"password": "not-a-secret passphrase"}]},
    )

    password: Password


class PasswordChange(Deletion):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"password": "not-a-secret passphrase", "new_password": "not-a-secret 2"}]
        }
    )

    new_password: Password


class User(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_USER]})

    id: UUID
    email: str
    created_at: datetime


class Session(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
                    "token_type": "bearer",
                    "expires_at": "2026-11-28T09:00:00Z",
                    "user": _USER,
                }
            ]
        }
    )

    token: str | None = Field(
        default=None, description="For Authorization: Bearer. Browsers get it as a cookie alone"
    )
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind of token
    expires_at: datetime
    user: User
