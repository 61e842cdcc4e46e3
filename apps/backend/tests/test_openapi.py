"""The OpenAPI document, from which clients are generated."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import openapi

FILE = Path(__file__).parent.parent / "openapi.json"
HOW = "renew it, in apps/backend: python3 -m app.openapi > openapi.json"
DOCUMENT = openapi.document()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_the_file_is_current() -> None:
    assert FILE.read_text() == openapi.text(), f"openapi.json is out of date; {HOW}"


def test_the_command_prints_the_file() -> None:
    """Without any setting: whoever generates a client has none."""
    printed = subprocess.run(
        [sys.executable, "-m", "app.openapi"], capture_output=True, text=True,
        check=True, env={"PATH": "/usr/bin"},
    )  # fmt: skip
    assert (printed.stdout, printed.stderr) == (FILE.read_text(), "")


def contents(described: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(described.get("content", {}).items())


@each_operation
def test_every_request_and_answer_has_an_example(operation: dict[str, Any]) -> None:
    answers = operation["responses"].values()
    for described in (operation.get("requestBody", {}), *answers):
        for media, content in contents(described):
            assert "example" in content or content.get("examples"), media
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            assert parameter["schema"]["examples"]


@each_operation
def test_every_error_is_a_problem(operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        for media, content in contents(answer):
            assert (media == "application/problem+json") == (int(status) >= 400)
            if int(status) >= 400:
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for code, example in content["examples"].items():
                    assert example["value"]["code"] == code
                    assert example["value"]["status"] == int(status)
                    assert example["value"]["instance"].startswith("/api/v1/")
        assert int(status) < 400 or contents(answer)


@each_operation
def test_every_operation_says_what_it_needs(operation: dict[str, Any]) -> None:
    assert operation["operationId"].isidentifier()
    statuses = set(operation["responses"])
    protected = {} not in operation.get("security", [{}])
    assert not protected or "401" in statuses
    assert "requestBody" not in operation or {"400", "413", "422"} <= statuses
    for scheme in operation.get("security", []):
        assert set(scheme) <= set(DOCUMENT["components"]["securitySchemes"])


def test_names_are_unique_and_nothing_is_left_over() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    written = openapi.text()
    for model in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{model}"' in written
