"""The codes of problems, which clients depend on: all have one spelling."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import app
from app import openapi
from app.core.problems import CODE, ProblemError, describe

SOURCE = Path(app.__file__).parent
# Which argument is the code.
CALLS = {"ProblemError": 1, "refusal": 0}


def in_source() -> Iterator[str]:
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=name), args=args) if name in CALLS:
                    yield from texts(args[CALLS[name]])
                case ast.Call(func=ast.Name(id="partial"), args=[ast.Name(id=name), *args]) if (
                    name in CALLS
                ):
                    yield from texts(args[CALLS[name]])
                case ast.Assign(targets=[ast.Name(id="code")], value=value):
                    yield from texts(value)
                # A code and its text that go together, by the database's cause.
                case ast.Assign(value=ast.Tuple(elts=[first, ast.Constant(value=str())])):
                    yield from texts(first)


def texts(value: ast.expr) -> Iterator[str]:
    """The texts that an expression may give: `a if … else b` has two."""
    if isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value


def in_document() -> Iterator[str]:
    operations: list[dict[str, Any]] = [
        operation for path in openapi.document()["paths"].values() for operation in path.values()
    ]
    for operation in operations:
        for answer in operation["responses"].values():
            problems = answer.get("content", {}).get("application/problem+json", {})
            yield from problems.get("examples", {})


CODES = sorted({*in_source(), *in_document()})


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_words_with_hyphens(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)


def test_they_were_found() -> None:
    assert set(in_document()) <= set(in_source())
    assert {"database-quota-exceeded", "bad-request", "shutting-down", "assistant-busy"} <= set(
        CODES
    )


@pytest.mark.parametrize("code", ["not_found", "NotFound", "not-found-", ""])
def test_another_spelling_is_no_problem_at_all(code: str) -> None:
    assert not re.search(CODE, code)
    with pytest.raises(ValidationError):
        describe("/", ProblemError(404, code, "Nothing"))
