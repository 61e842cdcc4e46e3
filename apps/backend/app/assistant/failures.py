"""The assistant's own problems."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from app.core.limits import describe_wait, refusal
from app.core.problems import ProblemError

DEFAULT_RETRY_SECONDS = 20
MAX_RETRY_SECONDS = 3600


not_configured = partial(
    ProblemError,
    503,
    "assistant-not-configured",
    "The assistant is off: OPENAI_API_KEY is not set.",
)
busy = partial(
    ProblemError,
    409,
    "assistant-busy",
    "The assistant is still at work on another request of yours, perhaps in another window.",
)
already_answered = partial(
    ProblemError,
    409,
    "confirmation-answered",
    "You have already answered this, perhaps in another window.",
)
nothing_to_answer = partial(
    ProblemError,
    404,
    "confirmation-not-found",
    "This confirmation is no longer open. Nothing was changed. Ask again.",
)
key_refused = partial(
    ProblemError,
    503,
    "assistant-key-refused",
    "The AI provider refuses the API key. Set a valid OPENAI_API_KEY and deploy again.",
)
interrupted = partial(
    ProblemError,
    409,
    "assistant-interrupted",
    "This request was ended: the conversation was forgotten, or another request took over.",
)
unavailable = partial(ProblemError, 503, "assistant-unavailable")
timed_out = partial(unavailable, "The AI provider did not answer in time. Try again.")
limit_reached = partial(ProblemError, 503, "assistant-limit-reached")
too_long = partial(limit_reached, "The answer became too long and was cut. Ask for less.")
tokens_used_up = partial(
    refusal,
    "assistant-tokens-used-up",
    "The assistant has read and written for you as much as it may in a day",
)


def rate_limited(seconds: int) -> ProblemError:
    return ProblemError(
        503,
        "assistant-rate-limited",
        "The AI provider takes no more requests at the moment."
        f" Try again {describe_wait(seconds)}.",
        {"Retry-After": str(seconds)},
    )


def retry_after(headers: Mapping[str, str]) -> int:
    """Returns the provider's Retry-After in seconds, bounded because it may be anything."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
            seconds = (moment - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            seconds = math.nan
    if not math.isfinite(seconds):
        return DEFAULT_RETRY_SECONDS
    return max(1, min(math.ceil(seconds), MAX_RETRY_SECONDS))
