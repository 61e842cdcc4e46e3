"""Settings from the environment and from one file per secret.

Invalid settings end the process at the start, with one line that names the fix.
"""

import os
import re
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ProgrammingError
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_SECRETS_DIR = "/etc/todo/secrets"
MIN_AUTH_SECRET_BYTES = 32
MIN_DISTINCT_CHARACTERS = 8
MAKE_ONE = "make one with: openssl rand -hex 32"
PLACEHOLDERS = ("change-me", "change_me", "changeme", "placeholder", "replace", "your-", "example")


class SettingsError(Exception):
    """The settings are invalid; the message is one line without any secret."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    environment: str = "dev"
    host: str = "0.0.0.0"  # noqa: S104 - the pod's address is only known to Kubernetes
    metrics_port: int = 9000  # never routed by the Ingress
    log_level: str = "INFO"

    database_url: SecretStr
    database_url_unpooled: SecretStr | None = None
    auth_secret: SecretStr
    openai_api_key: SecretStr = SecretStr("")

    openai_base_url: str = "https://api.openai.com/v1"
    openai_model: str = "gpt-5-mini"
    assistant_max_steps: int = Field(8, ge=1, le=50)  # answers of the model per request
    assistant_max_tokens: int = Field(4096, ge=16)  # per answer of the model
    assistant_token_budget: int = Field(100_000, ge=16)  # per request, including input
    assistant_max_seconds: float = Field(120, gt=0)  # of one request
    assistant_load_seconds: float = Field(100, gt=0)  # until the first byte: models load slowly
    assistant_silence_seconds: float = Field(45, gt=0)  # without any data from upstream

    allowed_origins: str = ""  # besides the one that a request was sent to; separated by spaces
    sign_ups_per_hour: int = Field(1000, ge=1, le=10**9)  # of one address
    todos_per_user: int = Field(50_000, ge=1)
    assistant_tokens_per_day: int = Field(1_000_000, ge=16, le=10**9)  # of one user

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be one of DEBUG, INFO, WARNING, ERROR")
        return value.upper()

    @field_validator("database_url", "database_url_unpooled")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_postgres_url(value.get_secret_value())
        return value

    @field_validator("openai_base_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                "must be an http(s) URL without user, password and query,"
                " e.g. https://api.openai.com/v1"
            )
        return value

    @field_validator("openai_api_key")
    @classmethod
    def _header_text(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value().strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError("has characters that no API key has; copy it again")
        return SecretStr(key)

    @field_validator("auth_secret")
    @classmethod
    def _strong_secret(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        if len(secret.encode()) < MIN_AUTH_SECRET_BYTES:
            raise ValueError(f"is shorter than {MIN_AUTH_SECRET_BYTES} bytes; {MAKE_ONE}")
        lowered = secret.lower()
        if (
            secret.startswith(("<", "$"))
            or any(word in lowered for word in PLACEHOLDERS)
            or len(set(secret)) < MIN_DISTINCT_CHARACTERS
        ):
            raise ValueError(f"is a placeholder; {MAKE_ONE}")
        return value

    @property
    def origins(self) -> set[str]:
        return set(self.allowed_origins.lower().split())

    @property
    def migration_url(self) -> str:
        """Migrations prefer the direct host, because a pooler only adds causes of failure."""
        return (self.database_url_unpooled or self.database_url).get_secret_value()

    def secret_values(self) -> list[str]:
        values = [self.auth_secret.get_secret_value(), self.openai_api_key.get_secret_value()]
        for url in (self.database_url, self.database_url_unpooled):
            if url is not None:
                values += [url.get_secret_value(), url_password(url.get_secret_value())]
        return [value for value in values if value]


def url_password(url: str) -> str:
    return str(conninfo_to_dict(url).get("password") or "")


def _check_postgres_url(url: str) -> None:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError(
            "must start with postgresql:// - give the bare URL as Neon prints it, without quotes,"
            " 'psql' or a driver name"
        )
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        # psycopg's own message quotes parts of the URL, possibly the password.
        raise ValueError(
            "is no valid Postgres URL; special characters in the password must be"
            " percent-encoded, e.g. @ as %40"
        ) from None


def load_settings() -> Settings:
    directory = Path(os.environ.get("SECRETS_DIR") or DEFAULT_SECRETS_DIR)
    try:
        return Settings(_secrets_dir=directory if directory.is_dir() else None)
    except ValidationError as error:
        raise SettingsError(_one_line(error, directory)) from None


def _one_line(error: ValidationError, directory: Path) -> str:
    problems = []
    for item in error.errors(include_input=False, include_context=False, include_url=False):
        name = str(item["loc"][0]).upper() if item["loc"] else "settings"
        if item["type"] == "missing":
            problems.append(f"{name} is not set (as {directory / name} or environment variable)")
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{name} {message}")
    return "; ".join(problems)
