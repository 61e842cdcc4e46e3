"""The operations on accounts."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from app.core import limits
from app.core.connections import Connection
from app.core.db import WAIT_SECONDS, Database, DatabaseUnavailableError
from app.core.dberrors import Cause, Kind
from app.core.limits import Bucket
from app.users import repository
from app.users.client import is_shared
from app.users.passwords import Passwords
from app.users.problems import (
    email_taken,
    too_many_attempts,
    too_many_sign_ups,
    wrong_credentials,
    wrong_password,
)
from app.users.repository import Account, Counted
from app.users.tokens import Claims, Tokens

log = logging.getLogger(__name__)

WINDOW = 900  # seconds
MAX_PER_ACCOUNT_AND_CLIENT = 5
MAX_PER_ACCOUNT = 20
MAX_PER_CLIENT = 50
CONNECTIONS = 2  # of the pool's five, so a flood of sign-ins leaves connections for todos


def account_bucket(email: str) -> Bucket:
    return Bucket(f"account {email}", MAX_PER_ACCOUNT, WINDOW)


@dataclass(frozen=True)
class SignedIn:
    """The result of signing in. `known`: the cookie that marks a client of this account."""

    account: Account
    token: str
    claims: Claims
    known: str


class Accounts:
    def __init__(
        self, db: Database, passwords: Passwords, tokens: Tokens, sign_ups_per_hour: int
    ) -> None:
        self._db, self._passwords, self._tokens = db, passwords, tokens
        self._sign_ups = sign_ups_per_hour
        self._few = asyncio.Semaphore(CONNECTIONS)

    async def sign_up(self, email: str, password: str, client: str) -> SignedIn:
        """Creates an account. The first one takes over todos from before accounts existed."""
        bucket = Bucket(f"sign-up {client}", self._sign_ups, 3600)
        with self._passwords.admit():
            async with self._connection() as conn:
                seconds = await limits.take(conn, bucket)
            if seconds:
                raise too_many_sign_ups(seconds)
            hashed = await self._passwords.hash(password)
        async with self._connection() as conn:
            async with conn.transaction():
                account = await repository.insert(conn, email, hashed)
                adopted = account and await repository.adopt_local_todos(conn, account.id)
            if account is None:
                await limits.give_back(conn, [bucket])
        if account is None:
            raise email_taken()
        if adopted:
            log.info(
                "todos of the time before accounts adopted", extra={"fields": {"todos": adopted}}
            )
        return self._session(account)

    async def sign_in(self, email: str, password: str, client: str, known: str = "") -> SignedIn:
        """Does the same work for an unknown address as for a wrong password.

        `known` is the cookie of a client that signed in before. Other people's attempts do not
        delay that client.
        """
        account = account_bucket(email)
        if name := await self._known_client(email, known):
            buckets = [Bucket(f"known {name}", MAX_PER_CLIENT, WINDOW)]
        else:
            pair = Bucket(f"sign-in {client} {email}", MAX_PER_ACCOUNT_AND_CLIENT, WINDOW)
            buckets = [pair, account]
            if not is_shared(client):
                buckets.append(Bucket(f"client {client}", MAX_PER_CLIENT, WINDOW))
        began = datetime.now(UTC)
        found = await self._check(email, password, buckets)
        if found is None:
            raise wrong_credentials()
        return self._session(found, began, name)

    async def change_password(self, account: Account, password: str, new: str) -> SignedIn:
        await self._confirm(account, password)
        hashed, now = await self._passwords.hash(new), datetime.now(UTC)
        async with self._db.connection() as conn:
            await repository.end_sessions(conn, account.id, now, hashed)
        return self._session(account, now)

    async def sign_out(self, token: str, *, everywhere: bool = False) -> None:
        """Revokes the token; an invalid one needs no revocation."""
        claims = self._tokens.read(token)
        if claims is None:
            return
        async with self._db.connection() as conn:
            if not everywhere:
                await repository.revoke(conn, claims)
            elif await repository.find_signed_in(conn, claims):
                await repository.end_sessions(conn, claims.user, datetime.now(UTC))

    def claims(self, token: str) -> Claims | None:
        """Returns None if the token is not ours or expired. The database checks the revocation."""
        return self._tokens.read(token)

    def renew(self, claims: Claims) -> str:
        return self._tokens.issue(claims.user, claims.began_at, claims.id)[0]

    async def who(self, claims: Claims) -> Account | None:
        async with self._db.connection() as conn:
            return await repository.find_signed_in(conn, claims)

    async def delete(self, account: Account, password: str) -> None:
        await self._confirm(account, password)
        async with self._db.connection() as conn:
            await repository.delete(conn, account.id)

    async def _known_client(self, email: str, token: str) -> str | None:
        """Returns None if the client is unknown, or if all sessions were ended since."""
        known = self._tokens.read_known(token, account_bucket(email).key)
        if known is None:
            return None
        with self._passwords.admit():
            async with self._connection() as conn:
                ended = await repository.has_ended(conn, email, known.began_at)
        return None if ended else known.name

    async def _confirm(self, account: Account, password: str) -> None:
        bucket = Bucket(f"password {account.id}", MAX_PER_ACCOUNT_AND_CLIENT, WINDOW)
        if not await self._check(account.email, password, [bucket]):
            raise wrong_password()

    async def _check(self, email: str, password: str, buckets: list[Bucket]) -> Counted | None:
        """Returns the account if the password is right. Only wrong attempts count."""
        with self._passwords.admit():
            async with self._connection() as conn:
                found = await repository.find(conn, email, buckets)
            if found.seconds:
                raise too_many_attempts(found.seconds)
            # The connection is back in the pool, because hashing takes longer than all the SQL.
            if not await self._passwords.verify(found.password_hash, password):
                return None
        async with self._connection() as conn:
            await limits.give_back(conn, buckets)
        return found

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Returns a connection. Raises DatabaseUnavailableError if none is free in time."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._few.acquire()
        except TimeoutError:
            cause = Cause(Kind.BUSY, "all connections for sign-ins are in use")
            raise DatabaseUnavailableError(cause) from None
        try:
            async with self._db.connection() as conn:
                yield conn
        finally:
            self._few.release()

    def _session(
        self, account: Account, began: datetime | None = None, client: str | None = None
    ) -> SignedIn:
        token, claims = self._tokens.issue(account.id, began)
        known = self._tokens.issue_known(account_bucket(account.email).key, claims.began_at, client)
        return SignedIn(account, token, claims, known)
