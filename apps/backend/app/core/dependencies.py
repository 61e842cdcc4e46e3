"""What endpoints ask for. All are `async`: FastAPI calls a plain function in another thread."""

from typing import Annotated

from fastapi import Depends, Request

from app.core.db import Database
from app.core.settings import Settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


CurrentDatabase = Annotated[Database, Depends(_database)]
CurrentSettings = Annotated[Settings, Depends(_settings)]
