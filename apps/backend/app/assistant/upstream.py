"""Streams one answer of the model from an OpenAI-compatible API."""

import asyncio
import importlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.assistant.answer import Answer, AnswerBuilder, IncompleteError, TooLongError
from app.assistant.failures import (
    key_refused,
    rate_limited,
    retry_after,
    timed_out,
    too_long,
    unavailable,
)
from app.core.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
LOADING_PAUSE_SECONDS = 1.0
# Request parameters that some servers reject, by words in their errors. `content`: null next to
# tool calls; such an error may also be about a content policy or a Content-Type.
OPTIONAL = {
    "max_completion_tokens": re.compile("max_completion_tokens"),
    "stream_options": re.compile("stream_options"),
    "content": re.compile(
        r"""(?s)(?=.*(?:null|None|string)).*(?:\.content\b|["']content\\?["'])"""
    ),
}


class NoSuchApiError(Exception):
    """The answer does not conform to the API."""


class Upstream:
    """The provider. Imports the SDK (18 MB) only for the first question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncOpenAI | None = None
        self._connecting = asyncio.Lock()
        self._refused: frozenset[str] = frozenset()  # by this server, since this process started

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def answer(
        self,
        messages: Any,
        tools: Any,
        on_text: Callable[[str], None],
    ) -> Answer:
        """Returns the model's next answer; `on_text` receives its text immediately.

        Messages and tools are JSON of the API. Raises ProblemError for every failure of the
        provider.
        """
        client = await self._connect()
        builder = AnswerBuilder(self._settings.assistant_max_tokens)
        async with (
            _translated(self._settings.openai_base_url),
            asyncio.timeout(self._settings.assistant_load_seconds) as silence,
            # Leaving the block closes the connection, which stops the model.
            await self._open(client, messages, tools) as stream,
        ):
            begun = False
            async for chunk in stream:
                begun = True
                if text := builder.add(chunk):
                    on_text(text)
                now = asyncio.get_running_loop().time()
                silence.reschedule(now + self._settings.assistant_silence_seconds)
            if not begun:
                raise NoSuchApiError
            return builder.finish()

    async def _open(self, client: "AsyncOpenAI", messages: Any, tools: Any) -> Any:
        """Sends the request without rejected parameters, and repeats it while the model loads."""
        import openai  # noqa: PLC0415 - see Upstream

        refused = self._refused
        while True:
            if "content" in refused:
                messages = _without_null(messages)
            try:
                stream = await client.chat.completions.create(
                    model=self._settings.openai_model,
                    messages=messages,
                    tools=tools,
                    stream=True,
                    **self._options(refused),
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = error.response.text
                named = {name for name, pattern in OPTIONAL.items() if pattern.search(said)}
                if named <= refused:
                    raise
                refused |= named
            except openai.InternalServerError as error:
                if error.status_code != 503 or "loading" not in error.response.text.lower():
                    raise
                await asyncio.sleep(LOADING_PAUSE_SECONDS)
            else:
                self._refused = refused
                return stream

    def _options(self, refused: frozenset[str]) -> dict[str, Any]:
        options = {
            "max_completion_tokens": self._settings.assistant_max_tokens,
            "stream_options": {"include_usage": True},
        }
        return {name: value for name, value in options.items() if name not in refused}

    async def _connect(self) -> "AsyncOpenAI":
        async with self._connecting:
            if self._client is None:
                # The import takes a second, so it runs in a thread.
                self._client = await asyncio.to_thread(self._make_client)
            return self._client

    def _make_client(self) -> "AsyncOpenAI":
        openai = importlib.import_module("openai")
        http = importlib.import_module("httpx2")
        client: AsyncOpenAI = openai.AsyncOpenAI(
            api_key=self._settings.openai_api_key.get_secret_value(),
            base_url=self._settings.openai_base_url,
            timeout=http.Timeout(self._settings.assistant_load_seconds, connect=CONNECT_SECONDS),
            max_retries=0,  # the user decides about retries
        )
        # Imports the rest here instead of on the event loop.
        _ = client.chat.completions
        return client


@asynccontextmanager
async def _translated(base_url: str) -> AsyncIterator[None]:
    """Converts the SDK's errors into problems, without their texts, which may quote keys."""
    import openai  # noqa: PLC0415 - see Upstream

    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        log.warning("assistant: the key was refused (%d)", error.status_code)
        raise key_refused() from error
    except openai.RateLimitError as error:
        log.warning("assistant: rate limit or quota (%s)", error.code)
        raise rate_limited(retry_after(error.response.headers)) from error
    except openai.NotFoundError as error:
        log.warning("assistant: no such model or address (%s)", error.code)
        raise unavailable(
            "The AI provider does not know the model or the address. Check OPENAI_MODEL."
            f" {_advice(base_url)}"
        ) from error
    except openai.APIStatusError as error:
        log.warning("assistant: upstream answered %d (%s)", error.status_code, error.code)
        raise unavailable("The AI provider failed to answer. Try again.") from error
    except NoSuchApiError as error:
        log.warning("assistant: what answers at OPENAI_BASE_URL does not speak OpenAI's API")
        raise unavailable(
            f"OPENAI_BASE_URL is not an OpenAI-compatible API. {_advice(base_url)}"
        ) from error
    except (openai.APITimeoutError, TimeoutError) as error:
        log.warning("assistant: upstream is silent")
        raise timed_out() from error
    except TooLongError as error:
        raise too_long() from error
    except (openai.OpenAIError, IncompleteError, ValueError) as error:
        # No connection, an incomplete stream, or a server without this API.
        log.warning("assistant: upstream broke off (%s)", type(error).__name__)
        raise unavailable("The AI provider broke off its answer. Try again.") from error


def _advice(base_url: str) -> str:
    if urlsplit(base_url).path.strip("/"):
        return "Check OPENAI_BASE_URL."
    return "Add /v1 at the end of OPENAI_BASE_URL."


def _without_null(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message | {"content": message["content"] or ""} for message in messages]
