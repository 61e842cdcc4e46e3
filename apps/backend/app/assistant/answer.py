"""Assembles an answer of the model from the chunks of its stream."""

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

CHARACTERS_PER_TOKEN = 8  # generous; limits a server that ignores max_completion_tokens
MAX_CALLS = 32  # of one answer


class IncompleteError(Exception):
    """The stream ended before the answer was complete."""


class TooLongError(Exception):
    """The answer exceeds its limit."""


@dataclass
class Call:
    id: str
    name: str
    arguments: str

    def as_sent(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


@dataclass
class Answer:
    text: str
    calls: list[Call]
    tokens: int | None  # prompt and answer; None: the server sends no usage


@dataclass
class AnswerBuilder:
    """An answer in progress. Relies on nothing, because servers omit and repeat different parts."""

    max_tokens: int
    _text: list[str] = field(default_factory=list)
    _calls: list[Call] = field(default_factory=list)
    _newest: dict[int, Call] = field(default_factory=dict)  # by index
    _characters: int = 0
    _finish: str | None = None
    _tokens: int | None = None

    def add(self, chunk: Any) -> str:
        """Adds a chunk and returns its text."""
        try:
            return self._add(chunk)
        except (AttributeError, TypeError) as error:
            # The SDK does not validate, so a chunk may contain any JSON.
            raise IncompleteError from error

    def finish(self) -> Answer:
        if self._finish is None:
            raise IncompleteError
        if self._finish == "length":
            raise TooLongError
        return Answer("".join(self._text), self._calls, self._tokens)

    def _add(self, chunk: Any) -> str:
        total = getattr(getattr(chunk, "usage", None), "total_tokens", None)
        if isinstance(total, int):
            self._tokens = total
        # Chunks with the usage, and those that keep the connection open, have no choices.
        for choice in getattr(chunk, "choices", None) or ():
            self._finish = choice.finish_reason or self._finish
            delta = choice.delta
            if delta is None:
                continue
            for part in delta.tool_calls or ():
                self._add_call(part)
            return self._add_text((delta.content or "") + (getattr(delta, "refusal", None) or ""))
        return ""

    def _add_text(self, text: str) -> str:
        text = clean(text)
        self._count(text)
        self._text.append(text)
        return text

    def _add_call(self, part: Any) -> None:
        """Adds a part of a tool call: the name comes once, the arguments in pieces."""
        name = clean(part.function.name or "")
        arguments = clean(part.function.arguments or "")
        self._count(name + arguments)
        index = part.index if isinstance(part.index, int) else -1
        call = self._newest.get(index)
        if call is None or (name and _is_another(call, part.id, name, arguments)):
            if len(self._calls) >= MAX_CALLS:
                raise TooLongError
            call = Call(clean(part.id or ""), "", "")
            known = {"", *(known.id for known in self._calls)}
            if call.id in known:
                ids = (f"call_{number}" for number in count(len(self._calls)))
                call.id = next(each for each in ids if each not in known)
            self._calls.append(call)
            self._newest[index] = call
        call.name = call.name or name
        call.arguments += arguments

    def _count(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > self.max_tokens * CHARACTERS_PER_TOKEN:
            raise TooLongError


def _is_another(call: Call, identifier: str | None, name: str, arguments: str) -> bool:
    """Returns whether a named part starts a new call: some servers use one index for all calls."""
    if identifier:
        return identifier != call.id
    return name != call.name or (bool(arguments) and is_json(call.arguments))


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def clean(text: str) -> str:
    """Removes NUL and lone surrogates, which Postgres or UTF-8 cannot represent."""
    return text.replace("\0", "").encode(errors="replace").decode()
