"""Runs the migrations with Alembic. Imported only if there is something to migrate: the import
takes longer than the rest of a pod's start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

type Connection = psycopg.Connection[Any]


def upgrade(
    connect: Callable[[], Connection],
    folder: Path,
    lock_key: int,
    is_behind: Callable[[Connection], bool],
    record: Callable[[Connection], None],
) -> bool:
    """Migrates the schema to the head of the migrations in `folder`, in one transaction.

    An advisory lock lets one process migrate; the others wait and then find nothing to do. Returns
    whether it migrated. Raises `psycopg.Error` and the errors of `is_behind`.
    """
    config = Config()
    config.set_main_option("script_location", str(folder))
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key})
            # A migration that waits for a table's lock blocks all later requests for that table.
            connection.execute(text("SET LOCAL lock_timeout = '3s'"))
            config.attributes["connection"] = connection
            driver = connection.connection.driver_connection
            if driver is None or not is_behind(driver):
                return False
            command.upgrade(config, "head")
            record(driver)
            return True
    except DBAPIError as error:
        raise (error.orig if isinstance(error.orig, psycopg.Error) else error) from error
