"""Prints the OpenAPI document: `python3 -m app.openapi > openapi.json`.

Clients generate their types from that file; a test tells when it is out of date.
"""

import json
import secrets
import sys

from app.core.settings import Settings
from app.main import create_app


def document() -> str:
    # Nothing is started or asked, so no setting matters.
    settings = Settings.model_validate(
        {"database_url": "postgresql://nowhere", "auth_secret": secrets.token_hex()}
    )
    return json.dumps(create_app(settings).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
