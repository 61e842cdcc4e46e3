"""Waits with a limit, in seconds of the machine.

Everything takes longer on a busy machine. So a second counts less while more threads want a
processor than there are processors. A limit then measures the application and not the load. On an
idle machine, a second of the machine is a second.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx import AsyncClient

LOOK_SECONDS = 0.05
_PROCESSORS = os.process_cpu_count() or 1


def speed(loadavg: str, processors: int = _PROCESSORS) -> float:
    """The share of a processor that each thread gets, from /proc/loadavg.

    `1.31 3.02 3.44 4/89 691`: four threads run or want to, and one of them is the reader.
    """
    running = int(loadavg.split()[3].partition("/")[0]) - 1
    return min(1.0, processors / max(running, 1))


class Clock:
    """Counts seconds of the machine.

    A late look counts no more than two looks in time, because this process could not run either.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        threading.Thread(target=self._run, name="clock", daemon=True).start()

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            self.seconds += min(now - before, 2 * LOOK_SECONDS) * self._speed()
            before = now

    @staticmethod
    def _speed() -> float:
        try:
            return speed(Path("/proc/loadavg").read_text())
        except FileNotFoundError:  # not Linux
            return 1.0


clock = Clock()


class Bound:
    """Time that may pass from now on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = clock.seconds

    @property
    def left(self) -> float:
        return self._started + self._seconds - clock.seconds

    def check(self, trouble: object = "") -> None:
        assert self.left > 0, f"not within {self._seconds} s: {trouble}"


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fails if the block takes longer. The limit of the test ends a block that hangs."""
    bound = Bound(seconds)
    yield
    bound.check()


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until `condition` holds."""
    bound = Bound(seconds)
    while not await condition():
        bound.check()
        await asyncio.sleep(LOOK_SECONDS)


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Waits until `condition` holds, while the event loop goes on."""

    async def holds() -> bool:
        return condition()

    await within(seconds, holds)


def wait_until(condition: Callable[[], bool], seconds: float = 25) -> None:
    bound = Bound(seconds)
    while not condition():
        bound.check()
        time.sleep(LOOK_SECONDS)


async def served(client: AsyncClient, seconds: float) -> None:
    """Waits until the todos are listed; a pod recovers without a restart."""

    async def answers() -> bool:
        return (await client.get("/todos")).status_code == 200

    await within(seconds, answers)


async def known(client: AsyncClient, seconds: float) -> dict[str, str]:
    """Waits until the health answer knows about the database, and returns it."""

    async def tells() -> bool:
        return bool((await client.get("/health")).json()["database"] != "unknown")

    await within(seconds, tells)
    answer: dict[str, str] = (await client.get("/health")).json()
    return answer
