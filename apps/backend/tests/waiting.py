"""Waiting with a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from httpx import AsyncClient


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> float:
    """Waits until `condition` holds and returns after how many seconds it did."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def served(client: AsyncClient, seconds: float) -> float:
    """Waits until the todos are listed; a pod recovers without a restart."""

    async def answers() -> bool:
        return (await client.get("/todos")).status_code == 200

    return await within(seconds, answers)


async def known(client: AsyncClient, seconds: float) -> dict[str, str]:
    """Waits until the health answer knows about the database, and returns it."""

    async def tells() -> bool:
        return bool((await client.get("/health")).json()["database"] != "unknown")

    await within(seconds, tells)
    answer: dict[str, str] = (await client.get("/health")).json()
    return answer
