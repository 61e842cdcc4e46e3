"""The assistant's operations. The work runs in its own task: see `Run`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from app.assistant import repository
from app.assistant.failures import (
    already_answered,
    limit_reached,
    not_configured,
    nothing_to_answer,
    tokens_used_up,
    unavailable,
)
from app.assistant.lease import Lease
from app.assistant.repository import ConfirmationRow, MessageRow
from app.assistant.run import Run
from app.assistant.schemas import DoneEvent, ErrorEvent
from app.assistant.turn import Emit, Means, Turn, token_bucket
from app.assistant.upstream import Upstream
from app.core import limits
from app.core.db import Database, DatabaseUnavailableError
from app.core.problems import ProblemError, describe, internal_error, unavailable_database
from app.core.settings import Settings

log = logging.getLogger(__name__)

SHOWN_MESSAGES = 100
CLOSE_SECONDS = 5.0  # for running requests to store their results


class Assistant:
    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings, self._db = settings, db
        self._upstream: Upstream | None = None
        if settings.openai_api_key.get_secret_value():
            self._upstream = Upstream(settings)
        self._runs: set[Run] = set()

    @property
    def model(self) -> str | None:
        return None if self._upstream is None else self._settings.openai_model

    async def close(self) -> None:
        """Stops running requests, before the database is closed."""
        tasks = [run.stop() for run in list(self._runs)]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        if self._upstream is not None:
            await self._upstream.close()

    async def history(self, user: UUID) -> tuple[list[MessageRow], ConfirmationRow | None]:
        async with self._db.connection() as conn:
            messages = await repository.find_last(conn, user, SHOWN_MESSAGES)
            return messages, await repository.find_open_confirmation(conn, user)

    async def forget(self, user: UUID) -> None:
        async with self._db.connection() as conn:
            await repository.forget(conn, user)

    async def ask(self, user: UUID, question: str, path: str, *, resume: bool) -> Run:
        """Asks the assistant. Raises ProblemError if it is off or another request is running."""
        means = await self._means(user)
        lease = await Lease.take(self._db, user)
        return self._run(means, lease, path, lambda turn: turn.ask(question, resume=resume))

    async def answer(self, user: UUID, confirmation: UUID, path: str, *, approve: bool) -> Run:
        """Answers a confirmation. Raises ProblemError like `ask`, or if none is open."""
        means = await self._means(user, is_limited=approve)
        lease = await Lease.take(self._db, user)
        try:
            row = await self._claim(user, confirmation)
        except BaseException:
            await lease.release()
            raise
        return self._run(means, lease, path, lambda turn: turn.go_on(row, approve=approve))

    async def _claim(self, user: UUID, confirmation: UUID) -> ConfirmationRow:
        async with self._db.connection() as conn:
            row = await repository.claim_confirmation(conn, user, confirmation)
            if row is not None:
                return row
            if await repository.was_answered(conn, user, confirmation):
                raise already_answered()
        raise nothing_to_answer()

    async def _means(self, user: UUID, *, is_limited: bool = True) -> Means:
        """Starts a run. `is_limited`: raises ProblemError if the user's daily tokens are used."""
        if self._upstream is None:
            raise not_configured()
        if is_limited:
            async with self._db.connection() as conn:
                seconds = await limits.take(conn, token_bucket(user, self._settings))
            if seconds:
                raise tokens_used_up(seconds)
        return Means(self._db, self._upstream, self._settings)

    def _run(
        self, means: Means, lease: Lease, path: str, work: Callable[[Turn], Awaitable[UUID]]
    ) -> Run:
        async def perform(emit: Emit) -> None:
            turn = Turn(means, lease, emit)
            try:
                last = await _conclude(turn, lease, path, work, means.settings)
            except asyncio.CancelledError:  # the client disconnected, or this replica ends
                problem = unavailable("The assistant was stopped. Its changes are kept.")
                emit(ErrorEvent(problem=describe(path, problem)))
                raise
            # Sent after everything is stored, when the next request may start.
            emit(last)

        run = Run(perform, on_end=self._runs.discard)
        self._runs.add(run)
        return run


async def _conclude(
    turn: Turn,
    lease: Lease,
    path: str,
    work: Callable[[Turn], Awaitable[UUID]],
    settings: Settings,
) -> DoneEvent | ErrorEvent:
    started = time.monotonic()
    problem: ProblemError | None = None
    answer: UUID | None = None
    try:
        try:
            async with asyncio.timeout(settings.assistant_max_seconds), lease.kept():
                answer = await work(turn)
                return DoneEvent(message_id=answer)
        except TimeoutError:
            problem = limit_reached(
                "The assistant took too long and was stopped. Its changes are kept."
            )
        except ProblemError as error:
            problem = error
        except DatabaseUnavailableError as error:
            problem = unavailable_database(error)
        except Exception:
            log.exception("unexpected error")
            problem = internal_error()
        finally:
            if answer is None:
                await _store_what_is_there(turn)
            await lease.release()
            try:
                await turn.charge()
            except Exception:
                log.exception("assistant: the tokens of an answer were not counted")
    finally:
        seconds = round(time.monotonic() - started, 1)
        outcome = "done" if answer else problem.code if problem else "given up"
        log.info("assistant: %s", outcome, extra={"fields": {"seconds": seconds}})
    return ErrorEvent(problem=describe(path, problem))


async def _store_what_is_there(turn: Turn) -> None:
    try:
        await turn.store()
    except (ProblemError, DatabaseUnavailableError):
        log.warning("assistant: an answer that broke off could not be stored")
