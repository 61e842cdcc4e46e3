"""The start between gate and server: settings, the schema, and the remaining imports."""

import logging
import math
import subprocess
import sys
import threading

from app import __version__, migrate
from app.core.dberrors import Cause
from app.core.ending import EXIT_SETTINGS, explain_end
from app.core.gate import Gate
from app.core.logging import JsonFormatter, configure_logging
from app.core.settings import SettingsError, load_settings

CHILD_END_SECONDS = 3.0

log = logging.getLogger("app")


def run(gate: Gate) -> int:
    """Serves until a signal arrives. Returns the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        explain_end(f"todo-backend cannot start: {error}")
        return EXIT_SETTINGS
    formatter = configure_logging(settings.log_level, settings.secret_values())
    log.info(
        "starting",
        extra={"fields": {"version": __version__, "environment": settings.environment}},
    )
    schema = Schema(settings.migration_url, gate, formatter)
    try:
        # These imports take as long as checking the schema.
        from app.main import create_app  # noqa: PLC0415
        from app.server import serve  # noqa: PLC0415

        app = create_app(settings)
        code = schema.wait()
    finally:
        schema.end()
    return serve(settings, app, gate) if code == 0 else code


class Schema:
    """Migrates the schema to this release's head, in its own thread.

    Checks the schema with psycopg. A child process imports Alembic only if there is something
    to migrate.
    """

    def __init__(self, url: str, gate: Gate, formatter: JsonFormatter) -> None:
        self._url, self._gate, self._formatter = url, gate, formatter
        self._code = 1  # if an error ends the thread
        self._lock = threading.Lock()
        self._ending = False
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="schema", daemon=True)
        self._thread.start()

    def end(self) -> None:
        with self._lock:
            self._ending = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(CHILD_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()

    def wait(self) -> int:
        """Returns 0 if the schema is at the head, otherwise the exit code for the process."""
        self._thread.join()
        return self._code

    def _run(self) -> None:
        # xtask extends a rollout while the log's last line begins with "waiting for".
        log.info("waiting for the database")
        try:
            behind = migrate.patiently(lambda: migrate.is_behind(self._url), math.inf, self._report)
        except migrate.MigrationError as error:
            self._code = migrate.explain(error, self._url, self._formatter)
            return
        self._gate.health["database"] = "ok"
        self._gate.health.pop("database_cause", None)
        self._code = self._migrate() if behind else 0

    def _report(self, cause: Cause) -> None:
        self._gate.health |= {"database": "unavailable", "database_cause": cause.kind}

    def _migrate(self) -> int:
        log.info("waiting for the migration of the schema")
        with self._lock:
            if self._ending:
                return 0
            self._child = subprocess.Popen([sys.executable, "-m", "app.migrate"])
        code = self._child.wait()
        if code < 0 and not self._ending:
            explain_end(f"migration failed: signal {-code} ended its process")
            code = 128 - code
        return code
