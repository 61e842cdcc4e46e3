"""Limits each user to one request at a time, across replicas.

Uses a row with an expiry instead of a lock. Session locks do not work behind a pooler in
transaction mode, and a transaction lock would hold a connection while the model works.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

from app.assistant import repository
from app.assistant.failures import busy, interrupted
from app.core.db import Database, DatabaseUnavailableError
from app.core.problems import ProblemError

LEASE_SECONDS = 30.0  # how long a user waits after a replica was killed
RENEW_SECONDS = 10.0
PATIENCE_SECONDS = 1.0  # a cancelled request needs a moment to end
POLL_SECONDS = 0.1


class Lease:
    """The right to work for a user; `holder` is also the ID of the answer.

    `killed` is the ID of an answer whose request did not end. `unstored` is the ID that a released
    lease keeps, so that the next request finds it in `killed`; None: everything is stored.
    """

    def __init__(self, db: Database, user: UUID) -> None:
        self._db = db
        self.user = user
        self.holder = uuid4()
        self.killed: UUID | None = None
        self.unstored: UUID | None = None

    @classmethod
    async def take(cls, db: Database, user: UUID) -> "Lease":
        """Takes the lease. Raises ProblemError 409 if another request of the user is running."""
        lease = cls(db, user)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            async with db.connection() as conn:
                taken = await repository.take_lease(conn, user, lease.holder, LEASE_SECONDS)
            if taken is not None:
                lease.killed = lease.unstored = taken["killed"]
                return lease
            if time.monotonic() > deadline:
                raise busy()
            await asyncio.sleep(POLL_SECONDS)

    async def renew(self) -> None:
        """Renews the lease. Raises ProblemError 409 if it is lost: then the answer must stop."""
        async with self._db.connection() as conn:
            if not await repository.renew_lease(conn, self.user, self.holder, LEASE_SECONDS):
                raise interrupted()

    async def release(self) -> None:
        with suppress(DatabaseUnavailableError):  # it expires by itself
            async with self._db.connection() as conn:
                if self.unstored is None:
                    await repository.drop_lease(conn, self.user, self.holder)
                else:
                    await repository.end_lease(conn, self.user, self.holder, self.unstored)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renews the lease while the block runs. The next renew() detects a lost one."""
        keeper = asyncio.create_task(self._keep(), name="assistant-lease")
        try:
            yield
        finally:
            keeper.cancel()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(DatabaseUnavailableError, ProblemError):
                await self.renew()
