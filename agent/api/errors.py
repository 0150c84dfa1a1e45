"""Errors over HTTP: `error` is one line for people, as SAND has it; `detail` has the fields for programs. No traceback leaves the agent."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agent.api.reference import allowed
from specs.model.validation import expected_first, path_of
from warren.errors import MISSING, Invalid, WarrenError


class ErrorResponse(JSONResponse):
    """JSON in ASCII: an error may quote what is no text in UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content).encode()


def add_handlers(app: FastAPI) -> None:
    """Answer every kind of error in that form."""

    @app.exception_handler(WarrenError)
    def _warren(_request: Request, error: Exception) -> ErrorResponse:
        assert isinstance(error, WarrenError)
        return ErrorResponse({"error": str(error), "detail": error.fields()}, error.http_status)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: Exception) -> ErrorResponse:
        assert isinstance(error, RequestValidationError)
        wrong = _first(error)
        return ErrorResponse({"error": str(wrong), "detail": wrong.fields()}, 400)

    @app.exception_handler(UnicodeEncodeError)
    def _no_text(_request: Request, error: Exception) -> ErrorResponse:
        assert isinstance(error, UnicodeEncodeError)  # JSON can escape half of a pair, which no store and no header can hold
        wrong = Invalid("body", error.object, "text, without halves of surrogate pairs")
        return ErrorResponse({"error": str(wrong), "detail": wrong.fields()}, 400)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: Exception) -> ErrorResponse:
        assert isinstance(error, HTTPException)
        text = str(error.detail)
        if error.status_code == 404:
            text = f"there is no {request.method} {request.url.path} (see /docs)"
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework names the methods of one route only, although several share the path
            headers["Allow"] = allowed(app.openapi()["paths"], request.url.path) or headers.get("Allow", "")
            text = f"{request.method} is not possible on {request.url.path}: it has {headers['Allow']} (see /docs)"
        return ErrorResponse({"error": text, "detail": {"kind": "http"}}, error.status_code, headers=headers)

    @app.exception_handler(Exception)
    def _bug(_request: Request, error: Exception) -> ErrorResponse:
        text = f"internal error ({type(error).__name__}), see the agent's log"
        return ErrorResponse({"error": text, "detail": {"kind": "internal"}}, 500)


def _first(error: RequestValidationError) -> Invalid:
    """The first problem of a request that does not fit the route."""
    errors = error.errors()
    first = errors[0]
    path = path_of(part for part in first["loc"] if part not in ("body", "query", "path", "header"))
    kind, value = first["type"], first.get("input")
    if kind == "json_invalid":
        problem = f"it is not JSON: {first.get('ctx', {}).get('error', first['msg'])}"
        return Invalid("body", MISSING, "a JSON object", problem=problem)
    if kind == "missing":
        return Invalid(path or "body", MISSING, "it is required")
    if kind == "extra_forbidden":
        return Invalid(path, value, "a field that exists", problem="there is no such field (is it spelt right?)")
    if not path:
        expected = expected_first(errors) if kind == "value_error" else "a JSON object"
        return Invalid("body", value, expected, problem=f"expected {expected}")
    return Invalid(path, value, expected_first(errors))
