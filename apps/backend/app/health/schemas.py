from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.db import State
from app.core.dberrors import Kind


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"status": "ok", "database": "ok", "environment": "dev", "version": "0.1.0"}
            ]
        }
    )

    status: Literal["ok"] = "ok"
    database: State = Field(description="What the last use of the database found")
    database_cause: Kind | None = Field(
        default=None, description="Only while unavailable: what kind of refusal it is"
    )
    environment: str
    version: str
