"""The OpenAPI document: the framework's own, and additions for all routes."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.problems import MEDIA_TYPE, responses

type Json = dict[str, Any]

DESCRIPTION = """\
Errors are problems as in RFC 9457; clients may rely on their `code`. Sign up or sign in first: the
answer has a token for `Authorization: Bearer`, and browsers get it as a cookie. A change with the
cookie needs an `Origin` of this site.
"""
TAGS = [
    {"name": "accounts", "description": "Sign up, in and out"},
    {"name": "todos", "description": "The signed-in user's todos, after the Todo-Backend contract"},
    {"name": "assistant", "description": "A model that works on the user's todos, streamed"},
    {"name": "health", "description": "For Kubernetes' probes"},
]
SAFE_METHODS = frozenset({"get", "head", "options"})
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def describe(app: FastAPI, schemes: Json) -> Json:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=DESCRIPTION,
            tags=TAGS,
            routes=app.routes,
        )
        schema["components"]["securitySchemes"] = schemes
        models: Json = schema["components"]["schemas"]
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _add_security(operation, schemes)
                _add_what_any_route_answers(method, operation)
                _add_examples(path, operation, models)
        for unused in ("HTTPValidationError", "ValidationError"):
            models.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


def _add_security(operation: Json, schemes: Json) -> None:
    """Adds the schemes to the routes of a session, which also take its user's header."""
    if any(parameter["name"] == "x-todo-user" for parameter in operation.get("parameters", [])):
        operation["security"] = [{name: []} for name in schemes] + operation.get("security", [])


def _add_what_any_route_answers(method: str, operation: Json) -> None:
    answers = operation["responses"]
    statuses = []
    if "requestBody" in operation:
        statuses += [400, 413]
    if "422" in answers and MEDIA_TYPE not in answers["422"]["content"]:
        del answers["422"]  # the framework's own shape, which we never send
        statuses.append(422)
    if operation.get("security") and {} not in operation["security"]:
        statuses += [401, 409]
    if method not in SAFE_METHODS:
        statuses.append(403)
    for status in statuses:
        if str(status) not in answers:
            answer = responses(status)[status]
            content = answer["content"] | {"application/json": {"schema": _PROBLEM}}
            del answer["model"]
            answers[str(status)] = answer | {
                "description": HTTPStatus(status).phrase,
                "content": content,
            }
    operation["responses"] = dict(sorted(answers.items()))


def _add_examples(path: str, operation: Json, models: Json) -> None:
    if "requestBody" in operation:
        _add_example(operation["requestBody"]["content"], models)
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if int(status) < 400:
            _add_example(content, models)
        elif others := content.keys() - {MEDIA_TYPE}:
            # The framework uses the media type of the route's own answer for every model.
            problem = content.pop(others.pop()) | content.get(MEDIA_TYPE, {})
            for example in problem["examples"].values():
                example["value"]["instance"] = path
            content[MEDIA_TYPE] = problem


def _add_example(content: Json, models: Json) -> None:
    if "application/json" in content:
        media = content["application/json"]
        media["example"] = _example(media["schema"], models)


def _example(schema: Json, models: Json) -> Any:
    """Returns the schema's own example, or one composed from its parts."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(models[schema["$ref"].rpartition("/")[2]], models)
    if schema.get("type") == "array":
        return [_example(schema["items"], models)]
    if "properties" in schema:
        return {name: _example(field, models) for name, field in schema["properties"].items()}
    return schema.get("const", schema.get("default"))
