"""A small pool of connections, and what is known about the database behind it.

Made for Postgres behind PgBouncer in transaction mode and for a compute that sleeps: no session
state, no server-side prepared statements, no connection kept open only to be kept.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any

from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from app.core.dberrors import classify

log = logging.getLogger(__name__)

type Connection = AsyncConnection[DictRow]

MAX_CONNECTIONS = 5  # two replicas, and a rollout's third, on Neon's smallest compute
MAX_WAITING = 200  # requests in the queue; more are refused at once
WAIT_SECONDS = 2.0  # what a request waits for a database that wakes up
CHECK_SECONDS = 1.0
WORK_SECONDS = 4.0  # one request's statements; all of them are small
CONNECT_SECONDS = 2  # psycopg's minimum, for each address of the host
RECONNECT_SECONDS = 1.5  # the pool's own retries end soon: the next request begins anew
WATCH_SECONDS = (0.5, 1.0)  # jittered, so that replicas do not knock together

# Sockets that nobody answers are given up by the kernel (milliseconds, then seconds).
SOCKET_OPTIONS: dict[str, Any] = {
    "tcp_user_timeout": 2500,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class State(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    UNAVAILABLE = "unavailable"


class DatabaseUnavailableError(Exception):
    """The database did not answer in time; the request may be tried again."""


def connect_options(url: str, connect_timeout: int) -> dict[str, Any]:
    """What is added to a URL; what the URL itself says is never overruled."""
    options = SOCKET_OPTIONS | {
        "connect_timeout": connect_timeout,
        "application_name": "todo-backend",
    }
    given = conninfo_to_dict(url)
    return {name: value for name, value in options.items() if name not in given} | {
        "prepare_threshold": None
    }


class Database:
    def __init__(self, url: str) -> None:
        self._url = url
        self._options = connect_options(url, CONNECT_SECONDS) | {
            "autocommit": True,  # a single statement is its own transaction: one round trip
            "row_factory": dict_row,
        }
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            open=False,
            kwargs=self._options,
            min_size=0,  # an idle application lets the compute sleep
            max_size=MAX_CONNECTIONS,
            max_waiting=MAX_WAITING,
            max_idle=120,
            max_lifetime=1800,
            timeout=WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            check=_check,
            name="todo",
        )
        self._state = State.UNKNOWN
        self._was_reached = False
        self._doubt = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """What the last attempt found; asking costs nothing."""
        return self._state

    @property
    def was_reached(self) -> bool:
        """Whether there was one successful connection in this process's life."""
        return self._was_reached

    async def open(self) -> None:
        await self._pool.open()
        self._doubt.set()
        self._watcher = asyncio.create_task(self._watch(), name="database-watch")

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one short piece of work; never keep it while waiting for others."""
        try:
            async with self._pool.connection() as conn:
                self._reached()
                with _cut_after(conn, WORK_SECONDS):
                    yield conn
        except (OperationalError, InterfaceError) as error:
            self._failed(error)
            raise DatabaseUnavailableError from error

    def _reached(self) -> None:
        if self._state is not State.OK:
            log.info("database reached")
        self._state = State.OK
        self._was_reached = True

    def _failed(self, error: BaseException) -> None:
        if self._state is State.OK:
            log.warning("database lost: %s", classify(error))
        self._state = State.UNAVAILABLE
        self._doubt.set()

    async def _watch(self) -> None:
        """While in doubt, knocks until the database answers; otherwise leaves it in peace."""
        reported = ""
        while True:
            await self._doubt.wait()
            try:
                async with await AsyncConnection.connect(self._url, **self._options):
                    self._reached()
                    self._doubt.clear()
                    reported = ""
            except (OperationalError, InterfaceError) as error:
                self._failed(error)
                cause = classify(error)
                if cause.kind != reported:
                    log.warning("database unavailable: %s - %s", cause, cause.advice)
                reported = cause.kind
            await asyncio.sleep(random.uniform(*WATCH_SECONDS))  # noqa: S311 - jitter


async def _check(conn: AsyncConnection[Any]) -> None:
    with _cut_after(conn, CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(conn)


class _cut_after:  # noqa: N801 - reads as a verb
    """Shuts the connection's socket if the block takes longer.

    Cancelling the task instead would make psycopg ask the silent server to cancel the query and
    wait five more seconds for its answer.
    """

    def __init__(self, conn: AsyncConnection[Any], seconds: float) -> None:
        self._conn = conn
        self._seconds = seconds

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cut)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        if self._conn.closed:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._conn.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
