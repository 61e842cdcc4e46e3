"""Prints the OpenAPI document: `python3 -m app.openapi > openapi.json`.

Clients generate their types from that file; a test fails when it is outdated.
"""

import json
import secrets
import sys
from typing import Any

from app.core.settings import Settings
from app.main import create_app


def document() -> dict[str, Any]:
    # The values of the settings do not matter: nothing starts or connects.
    settings = Settings.model_validate(
        {"database_url": "postgresql://nowhere", "auth_secret": secrets.token_hex()}
    )
    return create_app(settings).openapi()


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
