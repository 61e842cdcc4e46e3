"""Creates the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from app import __version__
from app.assistant.endpoints import router as assistant
from app.assistant.service import Assistant
from app.core.db import Database
from app.core.metrics import Metrics
from app.core.middleware import RequestMiddleware
from app.core.openapi import describe
from app.core.problems import MAX_BODY_BYTES, install_problems
from app.core.settings import Settings
from app.core.streams import EventStreamMiddleware, Shutdown
from app.health.endpoints import router as health
from app.todos.endpoints import router as todos
from app.users.credential import check_origin
from app.users.current import SCHEMES
from app.users.endpoints import router as users
from app.users.passwords import Passwords
from app.users.problems import install_user_problems
from app.users.service import Accounts
from app.users.tokens import Tokens

PREFIX = "/api/v1"
ROUTERS = (health, users, todos, assistant)


def create_app(settings: Settings) -> FastAPI:
    metrics = Metrics(__version__, settings.environment)
    shutdown = Shutdown()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # The server also starts without a database; readiness reports that.
        database = Database(settings.database_url.get_secret_value())
        passwords = Passwords()
        app.state.database = database
        metrics.watch(database)
        shutdown.attach()
        tokens = Tokens(settings.auth_secret.get_secret_value())
        app.state.accounts = Accounts(database, passwords, tokens, settings.sign_ups_per_hour)
        app.state.assistant = Assistant(settings, database)
        await database.open()
        try:
            yield
        finally:
            await app.state.assistant.close()
            passwords.close()
            await database.close()

    app = FastAPI(
        title="Todo API",
        summary="Todos after the Todo-Backend contract",
        version=__version__,
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        # The bundled documentation pages load scripts from other hosts; we serve only OpenAPI.
        docs_url=None,
        redoc_url=None,
        # A redirect would contain the proxy's scheme and host instead of the caller's.
        redirect_slashes=False,
        # Nothing exports them; otherwise FastAPI looks for exporters with each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # On every route, so that no route can miss it.
        dependencies=[Depends(check_origin)],
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.shutdown = shutdown
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, max_body_size=MAX_BODY_BYTES)
    install_problems(app)
    install_user_problems(app)
    app.openapi = partial(describe, app, SCHEMES)  # type: ignore[method-assign]
    # The last one added is the outermost.
    app.add_middleware(EventStreamMiddleware, shutdown=shutdown)
    app.add_middleware(RequestMiddleware, metrics=metrics, prefix=PREFIX)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
