"""Liveness and readiness. Neither asks the database, because an outage must not restart pods."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app import __version__
from app.core.dependencies import CurrentDatabase, CurrentSettings
from app.core.problems import ProblemError, responses
from app.health.schemas import Health


def not_ready() -> ProblemError:
    detail = "The database has not answered yet."
    return ProblemError(503, "not-ready", detail, {"Retry-After": "2"})


router = APIRouter(tags=["health"])


@router.get("/health", responses=responses(not_ready()), response_model_exclude_none=True)
async def health(
    database: CurrentDatabase,
    settings: CurrentSettings,
    probe: Annotated[
        Literal["ready"] | None,
        Query(description="ready: 503 until the database was reached once in this process's life"),
    ] = None,
) -> Health:
    """Liveness; with `probe=ready` readiness, so a wrong database URL cannot complete a rollout."""
    if probe == "ready" and not database.was_reached:
        raise not_ready()
    cause = database.cause
    return Health(
        database=database.state,
        database_cause=cause.kind if cause else None,
        environment=settings.environment,
        version=__version__,
    )
