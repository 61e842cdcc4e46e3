"""A small connection pool, and the state of the database behind it.

Idle connections are closed so that Neon can suspend. The state (reached or not, and why not) comes
from the requests' own use. Only after a failure a watcher probes the database.

"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from weakref import WeakSet

from psycopg import Error, InterfaceError, OperationalError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from app.core.connections import Connection, check, connect_options, cut_after
from app.core.dberrors import Cause, Kind, classify

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 5  # two replicas, and a rollout's third, on Neon's smallest compute
MAX_WAITING = 200  # requests in the queue; rejects more at once
WAIT_SECONDS = 2.0  # how long a request waits for a waking database
WORK_SECONDS = 3.0  # for all statements of one request
CONNECT_SECONDS = 2  # psycopg's minimum, for each address of the host
RECONNECT_SECONDS = 1.5  # the pool's own retries end soon: the next request retries
CLOSE_SECONDS = 2.0
WATCH_SECONDS = (0.5, 1.0)  # jitter, so that replicas do not probe at the same time
LASTING_WATCH_SECONDS = (1.0, 1.7)  # for errors that rarely resolve on their own
LISTEN_SECONDS = 1.0
# SQLSTATE classes of errors of the server or the account, not of one statement.
OUTAGES = ("08", "28", "3D", "53300", "57P")


class State(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    UNAVAILABLE = "unavailable"


class DatabaseUnavailableError(Exception):
    """The database did not answer in time; the client may retry the request."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Database:
    def __init__(self, url: str) -> None:
        self._url = url
        self._options = connect_options(url, CONNECT_SECONDS) | {
            "autocommit": True,  # a single statement is its own transaction: one round trip
            "row_factory": dict_row,
            "failed": self._refused,
        }
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            connection_class=Connection,
            open=False,
            kwargs=self._options,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            max_waiting=MAX_WAITING,
            max_idle=120,
            max_lifetime=1800,
            timeout=WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            check=self._check,
            name="todo",
        )
        self.state = State.UNKNOWN  # result of the last attempt
        self._cause: Cause | None = None
        self.was_reached = False  # in this process's life
        self._in_use = 0
        self._drained_at = 0.0
        self._known: WeakSet[Connection] = WeakSet()
        self._doubt = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def cause(self) -> Cause | None:
        return self._cause if self.state is State.UNAVAILABLE else None

    def figures(self) -> dict[str, int]:
        """The pool's: https://www.psycopg.org/psycopg3/docs/advanced/pool.html#pool-stats."""
        return self._pool.get_stats()

    async def open(self) -> None:
        await self._pool.open()
        self._doubt.set()
        self._watcher = asyncio.create_task(self._watch(), name="database-watch")

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self._pool.close(CLOSE_SECONDS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Returns a connection for one short task; do not hold it while waiting for anything else.

        Raises DatabaseUnavailableError if none is free within WAIT_SECONDS, or if it breaks.
        """
        if (cause := self.cause) is not None and not cause.passing:
            raise DatabaseUnavailableError(cause)  # the watcher notices when this is over
        try:
            async with self._pool.connection() as conn:
                self._in_use += 1
                self._known.add(conn)
                conn.in_use, conn.heard = True, False
                try:
                    with cut_after(conn, WORK_SECONDS):
                        yield conn
                finally:
                    self._in_use -= 1
                    conn.in_use = False
                    if not conn.closed:
                        conn.used_at = time.monotonic()
                        self._reached()
        except (PoolTimeout, TooManyRequests) as error:
            raise DatabaseUnavailableError(self._none_free(error)) from error
        except (OperationalError, InterfaceError) as error:
            cause = classify(error)
            # A deadlock, a full disk or a cancelled statement does not affect other requests.
            if error.sqlstate is None or error.sqlstate.startswith(OUTAGES):
                self._failed(cause)
            raise DatabaseUnavailableError(cause) from error

    async def _check(self, conn: Connection) -> None:
        try:
            await check(conn)
        except OperationalError:
            # The others are usually broken too. Trying each, with the pool's growing pauses,
            # would take longer than a request waits.
            if conn.opened_at > self._drained_at:
                self._drained_at = time.monotonic()
                await self._pool.drain()
            raise

    def _none_free(self, error: OperationalError) -> Cause:
        if self._in_use:
            self._doubt.set()
            return Cause(Kind.BUSY, str(error))
        cause = self._cause or classify(error)
        self._failed(cause)
        return cause

    def _reached(self) -> None:
        if self.state is not State.OK:
            log.info("database reached")
        self.state = State.OK
        self._cause = None
        self.was_reached = True

    def _refused(self, error: Error) -> None:
        """Handles a failed new connection; existing ones may still work."""
        cause = classify(error)
        one_more = cause.kind is Kind.TOO_MANY_CONNECTIONS and self.figures()["pool_available"] > 0
        if self._in_use or one_more:
            self._doubt.set()
        else:
            self._failed(cause)

    def _failed(self, cause: Cause) -> None:
        if self.state is State.OK:
            log.warning("database lost: %s", cause, extra=_fields(cause))
        self.state = State.UNAVAILABLE
        self._cause = cause
        self._doubt.set()

    async def _watch(self) -> None:
        """While in doubt, probes until the database answers; otherwise only listens."""
        reported = ""
        while True:
            await self._listen()
            pause = WATCH_SECONDS
            try:
                # `async with` would await a commit first. Cancelled there, it closes nothing.
                await (await Connection.connect(self._url, **self._options)).close()
                self._reached()
                self._doubt.clear()
                reported = ""
            except (OperationalError, InterfaceError) as error:
                cause = classify(error)
                if cause.kind != reported:
                    log.warning(
                        "database unavailable: %s - %s", cause, cause.advice, extra=_fields(cause)
                    )
                reported = cause.kind
                if not cause.passing:
                    pause = LASTING_WATCH_SECONDS
            await asyncio.sleep(random.uniform(*pause))  # noqa: S311 - jitter

    async def _listen(self) -> None:
        """Returns when in doubt: a request failed, or an idle connection was cut.

        Listening runs no query, so it does not keep a compute awake. Each connection counts once:
        a compute that went to sleep is probed once and then left alone.
        """
        while not self._doubt.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), LISTEN_SECONDS)
            for conn in list(self._known):
                if not (conn.in_use or conn.heard or conn.closed) and conn.has_news():
                    conn.heard = True
                    self._doubt.set()


def _fields(cause: Cause) -> dict[str, dict[str, str]]:
    return {"fields": {"cause": cause.kind}}
