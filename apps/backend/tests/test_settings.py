"""Invalid settings end the start with one line."""

from pathlib import Path

import pytest

from app.core.settings import SettingsError, load_settings
from tests.conftest import AUTH_SECRET

URL = "postgresql://todo:pa%40ss-word@ep-x-pooler.eu.neon.tech/db?sslmode=require&channel_binding=require"
NAMES = ("DATABASE_URL", "DATABASE_URL_UNPOOLED", "AUTH_SECRET", "OPENAI_API_KEY", "ENVIRONMENT")


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As Kubernetes mounts them: links through a folder that is swapped as a whole."""
    for name in (*NAMES, "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    data = tmp_path / "..data"
    data.mkdir()
    for name, value in (
        ("DATABASE_URL", URL),
        ("AUTH_SECRET", AUTH_SECRET),
        ("OPENAI_API_KEY", ""),
    ):
        (data / name).write_text(value + "\n")
        (tmp_path / name).symlink_to(data / name)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_secrets_are_read_from_files() -> None:
    settings = load_settings()
    assert settings.database_url.get_secret_value() == URL
    assert settings.migration_url == URL
    assert settings.auth_secret.get_secret_value() == AUTH_SECRET
    assert settings.openai_api_key.get_secret_value() == ""
    assert set(settings.secret_values()) == {URL, "pa@ss-word", AUTH_SECRET}
    assert "pa" not in repr(settings).replace("path", "")
    assert AUTH_SECRET not in repr(settings)


def test_the_environment_wins_unless_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "staging")
    monkeypatch.setenv("AUTH_SECRET", "")
    monkeypatch.setenv("DATABASE_URL", "postgres://other/db")
    monkeypatch.setenv("DATABASE_URL_UNPOOLED", "postgres://direct/db")
    settings = load_settings()
    assert settings.environment == "staging"
    assert settings.auth_secret.get_secret_value() == AUTH_SECRET
    assert settings.database_url.get_secret_value() == "postgres://other/db"
    assert settings.migration_url == "postgres://direct/db"


def test_what_is_missing_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for directory in (tmp_path / "empty", tmp_path / "absent"):
        if directory.name == "empty":
            directory.mkdir()
        monkeypatch.setenv("SECRETS_DIR", str(directory))
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert f"DATABASE_URL is not set (as {directory}/DATABASE_URL" in str(refused.value)
        assert "AUTH_SECRET is not set" in str(refused.value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("short-but-secret", "shorter than 32 bytes"),
        ("ä" * 15, "shorter than 32 bytes"),
        ("please-change-me-" + "0123456789abcdef", "placeholder"),
        ("your-secret-of-32-bytes-or-more-here", "placeholder"),
        ("<openssl rand -hex 32 goes in here!>", "placeholder"),
        ("${AUTH_SECRET_FROM_SOMEWHERE_ELSE_12}", "placeholder"),
        ("a" * 64, "placeholder"),
    ],
)
def test_a_weak_auth_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, complaint: str
) -> None:
    monkeypatch.setenv("AUTH_SECRET", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith("AUTH_SECRET is ")
    assert complaint in message
    assert "openssl rand" in message
    assert value not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "value",
    [
        "mysql://u:hidden@h/d",
        "postgresql+psycopg://u:hidden@h/d",
        "psql 'postgresql://u:hidden@h/d'",
        "postgresql://u:hid%den@h/d",
        "postgresql://u:hidden@h/d?no_such_option=1",
        "host=h password=hidden",
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URL_UNPOOLED"])
def test_a_url_that_is_none_is_refused_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{name} ")
    assert "hid" not in str(refused.value)


def test_other_values_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "chatty")
    with pytest.raises(SettingsError, match="LOG_LEVEL must be one of"):
        load_settings()
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert load_settings().log_level == "DEBUG"


@pytest.mark.parametrize("name", ["SIGN_UPS_PER_HOUR", "ASSISTANT_TOKENS_PER_DAY"])
def test_a_rate_is_not_so_high_that_a_unit_takes_no_time(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1000000000")  # as in values.schema.json
    load_settings()
    monkeypatch.setenv(name, "1000000000000")
    with pytest.raises(SettingsError, match=f"{name} Input should be less than or equal"):
        load_settings()
