"""The work of one request: asks the model, runs its calls, stores texts and changes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any
from uuid import UUID, uuid4

from app.assistant import repository
from app.assistant.conversation import (
    ACCEPTED,
    CUT,
    HISTORY_MESSAGES,
    NOT_CARRIED_OUT,
    RESUME,
    WAITING,
    WAITING_BEFORE,
    Sent,
    Transcript,
    replaced,
    was_cut,
)
from app.assistant.failures import interrupted, limit_reached, unavailable
from app.assistant.lease import Lease
from app.assistant.repository import Asked, ConfirmationRow, MessageRow, Written
from app.assistant.schemas import (
    ConfirmationEvent,
    Event,
    NamedTodo,
    TextEvent,
    ToolEvent,
    ToolName,
    question_about,
)
from app.assistant.tools import Held, Outcome, Toolbox, added_titles, definitions
from app.assistant.upstream import Upstream
from app.core import limits
from app.core.db import Database
from app.core.limits import Bucket
from app.core.settings import Settings

CONFIRM_SECONDS = 600
MAX_QUOTED = 5  # titles in the history's question
CHARACTERS_PER_TOKEN = 3  # estimate if the server sends no usage

type Emit = Callable[[Event], None]


def token_bucket(user: UUID, settings: Settings) -> Bucket:
    return Bucket(f"assistant tokens {user}", settings.assistant_tokens_per_day, 24 * 3600)


@dataclass(frozen=True)
class Means:
    db: Database
    upstream: Upstream
    settings: Settings


class Turn:
    def __init__(self, means: Means, lease: Lease, emit: Emit) -> None:
        self._means, self._lease, self._emit = means, lease, emit
        self._toolbox = Toolbox(means.db, lease.user, means.settings.todos_per_user)
        self._asked: Asked | None = None
        self._text: list[str] = []
        self._unfinished: list[str] = []  # text of the current step
        self._touched: dict[UUID, None] = {}
        self._held: dict[UUID, Held] = {}
        self._accepted: list[Sent] = []  # results of the calls that requested it
        # One todo may be deleted or renamed without asking, but none after a question or a cut.
        self._free = 1
        self._complete = False
        self._tokens = 0
        self._answer_id = lease.holder
        # The answer that remains unstored. An answer to a confirmation answers no message.
        self._unstored_after = lease.killed
        self._transcript = Transcript([], None)

    async def ask(self, question: str, *, resume: bool) -> UUID:
        """Starts with a new message, or with the last one after a cut. Returns the answer's ID."""
        async with self._means.db.connection() as conn:
            history = await repository.find_last(conn, self._lease.user, HISTORY_MESSAGES)
        answers = list(takewhile(lambda row: row.role == "assistant", reversed(history)))
        asked = history[-len(answers) - 1].text if len(answers) < len(history) else None
        resume = resume and bool(answers) and asked == question
        if resume:
            killed = self._lease.killed
            # The answer to a confirmation may be newer than the killed one.
            last = next((row for row in answers if row.id == killed), answers[0])
            if not was_cut(last):
                if killed in {None, last.id}:
                    return await self._repeat(last)
                resume = False  # a repeated message whose answer was not stored
        self._unstored_after = None
        if resume:
            self._free = 0
            self._transcript = Transcript(history, None)
            self._transcript.steps.append({"role": "user", "content": RESUME})
            self._toolbox.added = [title for row in answers for title in added_titles(row.steps)]
        else:
            # Until something is stored, "Try again" must not continue an earlier answer.
            self._lease.unstored = self._lease.holder
            self._asked = Asked(uuid4(), question, datetime.now(UTC))
            self._transcript = Transcript(history, question)
        return await self._work()

    async def _repeat(self, answer: MessageRow) -> UUID:
        """Sends a stored answer again, after its end did not reach the client."""
        async with self._means.db.connection() as conn:
            row = await repository.find_open_confirmation(conn, self._lease.user)
        if row is None:
            self._emit(TextEvent(delta=answer.text))
        else:
            self._emit(ConfirmationEvent.of(row))
        return answer.id

    async def go_on(self, confirmation: ConfirmationRow, *, approve: bool) -> UUID:
        """Continues after the user's yes or no. Returns the answer's ID."""
        self._free = 0
        self._lease.unstored = self._lease.killed or self._lease.holder
        if approve:
            await self._carry_out([_restored(todo) for todo in confirmation.todos])
        outcome = json.dumps({"confirmed": approve, "done": len(self._touched)})
        user, waiting = self._lease.user, confirmation.message_id
        async with self._means.db.connection() as conn:
            history = await repository.find_last(conn, user, HISTORY_MESSAGES, until=waiting)
            if history and history[-1].id == waiting:
                steps = replaced(history[-1].steps, WAITING, outcome)
                steps = replaced(steps, WAITING_BEFORE, outcome)
                history[-1] = replace(history[-1], steps=steps)
                await repository.update_steps(conn, user, waiting, steps)
        self._transcript = Transcript(history, None)
        await self.store()
        return await self._work()

    async def store(self) -> None:
        """Stores the texts and changes so far, if there are any."""
        text = "".join([*self._text, *self._unfinished]).strip()
        if not text and not self._touched:
            return
        # The accepted changes that are not done yet would be lost if the process ends now.
        steps = replaced(self._transcript.steps, ACCEPTED, NOT_CARRIED_OUT)
        if self._unfinished:
            steps.append({"role": "assistant", "content": "".join(self._unfinished)})
        if not self._complete and steps and steps[-1]["role"] == "assistant":
            steps[-1] = steps[-1] | {"content": steps[-1]["content"] + CUT}
        answer = Written(self._answer_id, text or self._in_short(), list(self._touched), steps)
        async with self._means.db.connection() as conn:
            user, holder = self._lease.user, self._lease.holder
            if not await repository.store(conn, user, holder, self._asked, answer):
                raise interrupted()
        self._lease.unstored = self._unstored_after

    async def charge(self) -> None:
        """Counts the model's tokens, also after a failure."""
        if self._tokens:
            async with self._means.db.connection() as conn:
                bucket = token_bucket(self._lease.user, self._means.settings)
                await limits.take(conn, bucket, self._tokens)

    async def _work(self) -> UUID:
        for _ in range(self._means.settings.assistant_max_steps):
            calls = await self._step()
            if not calls:
                await self._finish()
                return self._answer_id
            if len(self._held) > self._free:
                await self._ask_to_confirm()
                return self._answer_id
        raise limit_reached(
            "The assistant took too many steps and was stopped. Its changes are kept."
            " Ask for less at once."
        )

    async def _step(self) -> bool:
        """Runs one step of the model with its calls. Returns False after the last step."""
        messages = self._transcript.messages
        read = sum(len(json.dumps(message)) for message in messages)
        # Counts the input first, so a client that disconnects early also pays for it.
        estimate = read // CHARACTERS_PER_TOKEN
        self._tokens += estimate
        answer = await self._means.upstream.answer(messages, definitions(), self._say)
        self._text += self._unfinished
        self._unfinished = []
        used = answer.tokens or (read + len(answer.text)) // CHARACTERS_PER_TOKEN
        self._tokens += used - estimate
        for call, result in self._transcript.add(answer):
            await self._lease.renew()
            await self._record(await self._toolbox.run(call), result)
        if answer.calls and self._tokens > self._means.settings.assistant_token_budget:
            raise limit_reached(
                "The assistant used too many tokens and was stopped. Its changes are kept."
                " Ask for less at once."
            )
        return bool(answer.calls)

    async def _record(self, outcome: Outcome, result: Sent) -> None:
        result["content"] = outcome.content
        if outcome.held:
            for held in outcome.held:
                before = self._held.get(held.todo)
                self._held[held.todo] = before.with_later(held) if before else held
            self._accepted.append(result)
            result["content"] = ACCEPTED
        elif outcome.tool is not None:
            self._touch(ToolEvent(tool=outcome.tool, touched=outcome.touched))
            if outcome.touched:
                await self.store()

    async def _finish(self) -> None:
        """Applies a single change at the end, when no other can follow."""
        if self._held:
            await self._carry_out(list(self._held.values()))
            self._tell(json.dumps({"done": sum(todo in self._touched for todo in self._held)}))
        if not self._touched and not "".join(self._text).strip():
            raise unavailable("The AI provider gave an empty answer. Try again.")
        self._complete = True
        await self.store()

    async def _carry_out(self, held: list[Held]) -> None:
        await self._lease.renew()
        done: dict[ToolName, list[UUID]] = {}
        try:
            to_delete = [one.todo for one in held if one.changes is None]
            if to_delete:
                done["delete_todos"] = await self._toolbox.delete(to_delete)
            for one in held:
                if one.changes is not None and await self._toolbox.change(one.todo, one.changes):
                    done.setdefault("update_todo", []).append(one.todo)
        finally:  # an outage meanwhile does not undo the change
            for tool, touched in done.items():
                self._touch(ToolEvent(tool=tool, touched=touched))

    async def _ask_to_confirm(self) -> None:
        stored = [_stored(held) for held in self._held.values()]
        todos = [NamedTodo.model_validate(todo) for todo in stored]
        self._tell(WAITING)
        question = question_about(todos)
        quoted = ", ".join(
            f"“{todo.title}”" + (f" → “{todo.new_title}”" if todo.new_title else "")
            for todo in todos[:MAX_QUOTED]
        )
        more = ", …" if len(todos) > MAX_QUOTED else ""
        self._text.append(("\n\n" if self._text else "") + f"{question} {quoted}{more}")
        await self.store()
        async with self._means.db.connection() as conn:
            row = await repository.insert_confirmation(
                conn,
                self._lease.user,
                self._answer_id,
                stored,
                CONFIRM_SECONDS,
            )
        self._emit(ConfirmationEvent.of(row))

    def _tell(self, outcome: str) -> None:
        for result in self._accepted:
            result["content"] = outcome

    def _say(self, text: str) -> None:
        if self._text and not self._unfinished:
            text = "\n\n" + text  # text after a tool call starts a new paragraph
        self._unfinished.append(text)
        self._emit(TextEvent(delta=text))

    def _touch(self, event: ToolEvent) -> None:
        self._touched |= dict.fromkeys(event.touched)
        self._emit(event)

    def _in_short(self) -> str:
        """Returns the history's text for an answer that was cut before its first text."""
        return f"Changed {len(self._touched)} todo{'s' * (len(self._touched) != 1)}."


def _stored(held: Held) -> dict[str, Any]:
    """A change as the confirmation's row has it. The release before this one deletes each `id` of
    an approved row, so a renamed todo has another key."""
    if held.changes is None:
        return {"id": str(held.todo), "title": held.title}
    named = {"id": str(uuid4()), "title": held.title, "new_title": held.changes["title"]}
    completed = held.changes.get("completed")
    return named | {"completed": completed, "todo": str(held.todo), "changes": held.changes}


def _restored(stored: dict[str, Any]) -> Held:
    todo = UUID(stored.get("todo", stored["id"]))
    return Held(todo, stored["title"], stored.get("changes"))
