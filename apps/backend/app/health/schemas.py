from typing import Literal

from pydantic import BaseModel, Field

from app.core.db import State
from app.core.dberrors import Kind


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    database: State = Field(description="Result of the last use of the database", examples=["ok"])
    database_cause: Kind | None = Field(
        default=None, description="Only while unavailable: the kind of error"
    )
    environment: str = Field(examples=["dev"])
    version: str = Field(examples=["0.1.0"])
