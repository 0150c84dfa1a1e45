"""The API's reference, openapi.json, which `/docs` shows: it names every status that a route answers with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "One line for people."},
        "detail": {
            "type": "object",
            "description": "For programs: the kind of the error and its fields.",
            "properties": {"kind": {"type": "string"}},
        },
        "code": {"type": "integer", "description": "CNI's code; only POST /cni has one."},
    },
}
ONE_OR_NONE = ("/admin-overlay",)  # paths of an object that need not exist
STATUSES = {
    400: "A value is wrong or missing; `path` and `expected` say which, and what would be right.",
    404: "An object that the request names does not exist.",
    408: "The request did not arrive in time.",
    409: "The request contradicts what exists.",
    413: "The body is too long.",
    500: "A bug; the agent's log has it.",
    503: "etcd, Open vSwitch or another agent does not answer.",
}


def document(app: FastAPI) -> None:
    """Make openapi.json name every status that a route answers with."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_statuses(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_statuses(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with every status of every route. Warren answers 400 where FastAPI's own schema says 422."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = ERROR
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            for status in _statuses(path, method, operation):
                operation["responses"].setdefault(str(status), {"description": STATUSES[status], "content": content})
    return schema


def _statuses(path: str, method: str, operation: dict[str, Any]) -> Iterator[int]:
    body, parameters = "requestBody" in operation, bool(operation.get("parameters"))
    if body or parameters:
        yield 400
    if body or parameters or path in ONE_OR_NONE:  # parameters name objects, too: ?tenant=
        yield 404
    if method != "get":
        yield 409
    if body:
        yield from (408, 413)
    yield 500
    if path != "/version":
        yield 503


def allowed(paths: Mapping[str, Mapping[str, Any]], path: str) -> str:
    """Return the methods that a path has, as the header `Allow` lists them; empty text for a path that the reference does not have."""
    methods = {method.upper() for template, of_path in paths.items() if _pattern(template).fullmatch(path) for method in of_path}
    return ", ".join(sorted(methods))


def _pattern(template: str) -> re.Pattern[str]:
    """The paths that a template stands for; only the reference of an endpoint or a network may have a slash."""
    parts = (
        re.escape(part) if number % 2 == 0 else ".+" if part == "ref" else "[^/]+"
        for number, part in enumerate(re.split(r"[{}]", template))
    )
    return re.compile("".join(parts))
