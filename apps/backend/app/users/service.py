"""What can be done with accounts, whoever asks."""

import logging
from dataclasses import dataclass

from app.core.db import Database
from app.core.problems import ProblemError
from app.users import attempts, repository
from app.users.passwords import Passwords
from app.users.repository import Account
from app.users.tokens import Claims, Tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SignedIn:
    account: Account
    token: str
    claims: Claims


class Accounts:
    def __init__(self, db: Database, passwords: Passwords, tokens: Tokens) -> None:
        self._db, self._passwords, self._tokens = db, passwords, tokens

    async def sign_up(self, email: str, password: str) -> SignedIn:
        """Makes an account; the first one takes over the todos from before there were any."""
        hashed = await self._passwords.hash(password)
        async with self._db.connection() as conn, conn.transaction():
            account = await repository.insert(conn, email, hashed)
            if account is None:
                raise ProblemError(
                    409, "email-taken", "This email has an account already. Sign in instead."
                )
            adopted = await repository.adopt_local_todos(conn, account.id)
        if adopted:
            log.info("todos of the time before accounts adopted", extra=_fields(todos=adopted))
        return self._session(account)

    async def sign_in(self, email: str, password: str, client: str) -> SignedIn:
        """Takes the same way for an unknown address as for a wrong password."""
        async with self._db.connection() as conn:
            if seconds := await attempts.begin(conn, email, client):
                raise ProblemError(
                    429,
                    "too-many-attempts",
                    f"Too many attempts to sign in failed; try again in {seconds} s.",
                    {"Retry-After": str(seconds)},
                )
            found = await repository.find(conn, email)
        # The connection is back in the pool: hashing takes longer than all the SQL.
        stored = found.password_hash if found else None
        if not await self._passwords.verify(stored, password) or found is None:
            raise ProblemError(
                401,
                "wrong-credentials",
                "Email or password is wrong.",
                {"WWW-Authenticate": "Bearer"},
            )
        async with self._db.connection() as conn:
            await attempts.forget(conn, email)
        return self._session(Account(found.id, found.email, found.created_at))

    async def sign_out(self, token: str) -> None:
        """Revokes the token; one that is not good any more needs no revocation."""
        claims = self._tokens.read(token)
        if claims is not None:
            async with self._db.connection() as conn:
                await repository.revoke(conn, claims)

    def claims(self, token: str) -> Claims | None:
        """None: the token is not ours or expired. Whether it was revoked, the database knows."""
        return self._tokens.read(token)

    async def who(self, claims: Claims) -> Account | None:
        """None: the token is revoked, or its account is gone."""
        async with self._db.connection() as conn:
            return await repository.find_signed_in(conn, claims)

    async def delete(self, account: Account) -> None:
        async with self._db.connection() as conn, conn.transaction():
            await repository.delete(conn, account.id)
            await attempts.forget(conn, account.email)

    def _session(self, account: Account) -> SignedIn:
        token, claims = self._tokens.issue(account.id)
        return SignedIn(account, token, claims)


def _fields(**fields: object) -> dict[str, dict[str, object]]:
    return {"fields": fields}
