"""Liveness and readiness. Neither asks the database: an outage must not restart pods."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app import __version__
from app.core.dependencies import CurrentDatabase, CurrentSettings
from app.core.problems import Example, ProblemError, responses
from app.health.schemas import Health

NOT_READY = Example(503, "not-ready", "The database has not answered yet.")

router = APIRouter(tags=["health"])


@router.get("/health", responses=responses(NOT_READY), response_model_exclude_none=True)
async def health(
    database: CurrentDatabase,
    settings: CurrentSettings,
    probe: Annotated[
        Literal["ready"] | None,
        Query(description="ready: 503 until the database was reached once in this process's life"),
    ] = None,
) -> Health:
    """Alive. With `probe=ready`: a wrong database URL cannot complete a rollout."""
    if probe == "ready" and not database.was_reached:
        raise ProblemError(503, NOT_READY.code, NOT_READY.detail, {"Retry-After": "2"})
    cause = database.cause
    return Health(
        database=database.state,
        database_cause=cause.kind if cause else None,
        environment=settings.environment,
        version=__version__,
    )
