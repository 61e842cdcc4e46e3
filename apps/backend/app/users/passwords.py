"""Argon2id outside the event loop, with limits on memory and concurrency."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from app.users.problems import too_busy

# OWASP's recommendation for little memory: 19 MiB, 2 passes. The pod has 256 MiB and one CPU. Two
# hashes at a time would not be faster and would slow all other requests down.
MEMORY_KIB = 19_456
PASSES = 2
AT_ONCE = 1
MAX_WAITING = 50  # about two seconds of work

_ARGON2 = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1, type=Type.ID)


@cache
def _nobodys_hash() -> str:
    return _ARGON2.hash(secrets.token_hex())


class Passwords:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys = _nobodys_hash()  # at the start, so that no sign-in waits for it

    async def hash(self, password: str) -> str:
        return await self._run(_ARGON2.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Verifies a password; takes equally long without a hash to prevent timing attacks."""
        right = await self._run(self._matches, stored or self._nobodys, password)
        return right and stored is not None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return _ARGON2.verify(stored, password)
        except VerifyMismatchError:
            return False

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Limits the concurrent work; rejects an excess attempt before it takes a connection."""
        if self._waiting >= MAX_WAITING:
            raise too_busy()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _run[*Arguments, Result](
        self, work: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)
