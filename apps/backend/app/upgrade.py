"""Runs the migrations with Alembic. Imported only where there is something to migrate: the import
takes longer than everything else that a pod does before it serves.
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
    """Brings the schema to the head of the migrations in `folder`, in one transaction.

    An advisory lock lets one process migrate; the others wait and then find nothing to do. Returns
    whether there was something to do. Raises `psycopg.Error` and what `is_behind` raises.
    """
    config = Config()
    config.set_main_option("script_location", str(folder))
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key})
            # What waits for a table's lock makes all others wait behind it.
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
