"""The model behind an OpenAI-compatible API: one answer of it, streamed."""

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.assistant.answer import Answer, AnswerBuilder, IncompleteError, TooLongError
from app.assistant.failures import (
    key_refused,
    limit_reached,
    rate_limited,
    retry_after,
    unavailable,
)
from app.core.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0


class Upstream:
    """Does nothing until it is asked: without a question nobody pays for the SDK's 18 MB."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncOpenAI | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def answer(
        self,
        messages: Any,
        tools: Any,
        on_text: Callable[[str], None],
    ) -> Answer:
        """The model's next answer; `on_text` gets its text as it comes.

        Messages and tools are the API's own JSON. Raises ProblemError for whatever goes wrong on
        the other side.
        """
        client = await self._connect()
        builder = AnswerBuilder(self._settings.assistant_max_tokens)
        async with _translated():
            stream = await client.chat.completions.create(
                model=self._settings.openai_model,
                messages=messages,
                tools=tools,
                max_completion_tokens=self._settings.assistant_max_tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
            # Leaving the block closes the connection, which is what stops the model.
            async with stream:
                async for chunk in stream:
                    if text := builder.add(chunk):
                        on_text(text)
            return builder.finish()

    async def _connect(self) -> "AsyncOpenAI":
        async with self._connecting:
            if self._client is None:
                # A second of imports: in a thread, so that other requests go on.
                self._client = await asyncio.to_thread(self._make_client)
            return self._client

    def _make_client(self) -> "AsyncOpenAI":
        openai = importlib.import_module("openai")
        http = importlib.import_module("httpx2")
        client: AsyncOpenAI = openai.AsyncOpenAI(
            api_key=self._settings.openai_api_key.get_secret_value(),
            base_url=self._settings.openai_base_url,
            timeout=http.Timeout(self._settings.assistant_silence_seconds, connect=CONNECT_SECONDS),
            max_retries=0,  # the user decides: a retry here would hold them up unasked
        )
        # Imports what a question needs, here and not on the event loop.
        _ = client.chat.completions
        return client


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Turns the SDK's errors into problems; their texts stay out of the log: they quote keys."""
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
            "The assistant's provider does not know the model or the address;"
            " check OPENAI_MODEL and OPENAI_BASE_URL."
        ) from error
    except openai.APIStatusError as error:
        log.warning("assistant: upstream answered %d (%s)", error.status_code, error.code)
        raise unavailable("The assistant's provider failed to answer; try again.") from error
    except openai.APITimeoutError as error:
        log.warning("assistant: upstream is silent")
        raise unavailable("The assistant's provider did not answer in time; try again.") from error
    except TooLongError as error:
        raise limit_reached("The answer became too long and was cut; ask for less.") from error
    except (openai.OpenAIError, IncompleteError, ValueError) as error:
        # No connection, a stream that ends early, or something that is no such API at all.
        log.warning("assistant: upstream broke off (%s)", type(error).__name__)
        raise unavailable("The assistant's provider broke off its answer; try again.") from error
