"""One connection to Postgres: opening, checking and closing.

Supports PgBouncer in transaction mode and sleeping computes: uses no session state and no prepared
statements, and retries while the compute wakes.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, LiteralString, Self

from psycopg import AsyncConnection, Error
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ConnectionTimeout
from psycopg.rows import DictRow, class_row
from psycopg_pool import AsyncConnectionPool

CHECK_SECONDS = 1.0
FRESH_SECONDS = 5.0  # checks a recently used connection only if its socket has data
WAKE_SECONDS = 6.0  # retries a new connection while a compute wakes up

STORE = "/etc/ssl/certs/ca-certificates.crt"  # Debian's, which the image has

# Times after which the kernel closes unanswered sockets (milliseconds, then seconds).
SOCKET_OPTIONS: dict[str, Any] = {
    "tcp_user_timeout": 2500,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


def connect_options(url: str, connect_timeout: int) -> dict[str, Any]:
    """Returns options to add to a URL, without overriding any of the URL's own.

    psycopg's libpq contains its own OpenSSL, whose built-in store does not exist here. So
    `sslrootcert=system` becomes the path of a store, unless the environment names another one.
    """
    options = SOCKET_OPTIONS | {
        "connect_timeout": connect_timeout,
        "application_name": "todo-backend",
    }
    given = conninfo_to_dict(url)
    added = {name: value for name, value in options.items() if name not in given}
    names_store = "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ
    # libpq rejects `system` with less than verify-full, but accepts a path.
    is_verified = given.get("sslmode", "verify-full") == "verify-full"
    if given.get("sslrootcert") == "system" and is_verified and not names_store:
        added |= {"sslrootcert": STORE, "sslmode": "verify-full"}
    return added | {"prepare_threshold": None}


class Connection(AsyncConnection[DictRow]):
    """A connection of the pool, with the times when it was opened and last used."""

    opened_at = 0.0
    used_at = 0.0
    in_use = False
    heard = False  # whether the server has sent something since its last use

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, failed: Callable[[Error], None], **options: Any
    ) -> Self:
        """Reports each failed attempt to `failed`, which the pool itself does not do.

        After a timeout it retries at once. One longer attempt would suffice for a waking compute,
        but not if a router on the way has forgotten the connection.
        """
        deadline = time.monotonic() + WAKE_SECONDS
        while True:
            try:
                conn = await super().connect(conninfo, **options)
            except Error as error:
                failed(error)
                if not isinstance(error, ConnectionTimeout) or time.monotonic() >= deadline:
                    raise
            else:
                conn.opened_at = conn.used_at = time.monotonic()
                return conn

    async def fetch[Row](
        self, row: type[Row], statement: LiteralString, arguments: Mapping[str, Any]
    ) -> list[Row]:
        async with self.cursor(row_factory=class_row(row)) as cursor:
            await cursor.execute(statement, arguments)
            return await cursor.fetchall()

    async def fetch_one[Row](
        self, row: type[Row], statement: LiteralString, arguments: Mapping[str, Any]
    ) -> Row | None:
        return next(iter(await self.fetch(row, statement, arguments)), None)

    def has_news(self) -> bool:
        """Returns whether the server sent something by itself, usually that it closes."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


async def check(conn: Connection) -> None:
    """Raises if the connection no longer works.

    A check costs a round trip: tens of milliseconds to another region. So it runs only after some
    idle time, when routers may have forgotten the connection, or if the server sent something.
    """
    if time.monotonic() - conn.used_at < FRESH_SECONDS and not conn.has_news():
        return
    with cut_after(conn, CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(conn)


@contextmanager
def cut_after(conn: AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Shuts the connection's socket down if the block takes longer than `seconds`.

    If the task were cancelled instead, psycopg would ask the silent server to cancel the query and
    wait another five seconds.
    """

    timer = asyncio.get_running_loop().call_later(seconds, _cut, conn)
    try:
        yield
    finally:
        timer.cancel()


def _cut(conn: AsyncConnection[Any]) -> None:
    if conn.closed:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(conn.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
