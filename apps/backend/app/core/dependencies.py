"""The parts of the application's state that endpoints use."""

from typing import Annotated, Any

from fastapi import Depends, Request

from app.core.db import Database
from app.core.settings import Settings


def from_state(name: str) -> Any:
    # `async`, because FastAPI calls a plain function in another thread.
    async def read(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(read)


CurrentDatabase = Annotated[Database, from_state("database")]
CurrentSettings = Annotated[Settings, from_state("settings")]
