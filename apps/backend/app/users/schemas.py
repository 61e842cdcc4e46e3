"""Requests and answers of the accounts' API."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from app.core.texts import WITHOUT_NUL

MAX_EMAIL = 254  # RFC 5321: a path of 256 characters minus its brackets
MIN_PASSWORD = 8
MAX_PASSWORD = 128

# Only a mail server knows whether an address exists; this rejects impossible ones.
_NO_SPACE = r"[^\s@\x00-\x1f\x7f-\x9f]+"


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
    WITHOUT_NUL,
]


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: Email
    password: Password


class Deletion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: Password


class PasswordChange(Deletion):
    new_password: Password


class User(BaseModel):
    id: UUID = Field(examples=["8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11"])
    email: str = Field(examples=["ada@example.com"])
    created_at: datetime = Field(examples=["2026-11-21T09:00:00Z"])


class Session(BaseModel):
    token: str | None = Field(
        default=None,
        description="For Authorization: Bearer. Browsers get it only as a cookie",
        examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…"],
    )
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind of token
    expires_at: datetime = Field(examples=["2026-11-28T09:00:00Z"])
    user: User
