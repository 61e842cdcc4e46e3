from typing import Literal

from pydantic import BaseModel, Field

from app.core.db import State


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    database: State = Field(description="What the last use of the database found")
    environment: str = Field(examples=["dev"])
    version: str = Field(examples=["0.1.0"])
