"""Tracebacks that quote no values.

Validation errors repeat the input (for example a password), and PostgreSQL's details repeat whole
rows. For these errors this module prints the kind of error and its place, not the error's text.
"""

import traceback
from collections.abc import Iterator

import psycopg
import pydantic
from fastapi.exceptions import ValidationException


def format_error(error: BaseException) -> str:
    """Formats an error like Python: the first cause first, each with its frames."""
    return "\n".join(_parts(error, set()))


def _parts(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    earlier, how = error.__cause__, "which was the direct cause of:"
    if earlier is None and not error.__suppress_context__:
        earlier, how = error.__context__, "and while that was handled:"
    if earlier is not None and id(earlier) not in seen:
        yield from _parts(earlier, seen)
        yield how
    yield "".join(traceback.format_tb(error.__traceback__)) + describe(error)
    if isinstance(error, BaseExceptionGroup):
        for number, inner in enumerate(error.exceptions, 1):
            yield f"of it, number {number}:"
            yield from _parts(inner, seen)


def describe(error: BaseException) -> str:
    """Returns the last line: the type, and its text if that quotes no values."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, pydantic.ValidationError | ValidationException):
        wrong = [f"{'.'.join(map(str, item['loc']))} ({item['type']})" for item in error.errors()]
        return f"{name}: {', '.join(wrong)}"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{name}: {error.diag.message_primary}"
    return f"{name}: {error}" if str(error) else name
