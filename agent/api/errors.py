"""Errors over HTTP: every one is {"error": one line}, none has a traceback."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from specs.model.validation import expectation
from warren.errors import Invalid, WarrenError


def add_handlers(app: FastAPI) -> None:
    """Answer every kind of error in that form."""

    @app.exception_handler(WarrenError)
    def _warren(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, getattr(error, "http_status", 500))

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"error": _one_line(error)}, 400)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return JSONResponse({"error": f"there is no {request.method} {request.url.path} (see /docs)"}, 404)
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    def _bug(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"internal error ({type(error).__name__}), see the agent's log"}, 500)


def _one_line(error: RequestValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    kind, value = first["type"], first.get("input")
    if kind == "json_invalid":
        return f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}"
    if kind == "missing":
        return f"{path or 'body'}: expected a value (it is required)"
    if not path:
        return f"body: expected {expectation(kind, first['msg']) if kind == 'value_error' else 'a JSON object'}"
    return str(Invalid(path, value, expectation(kind, first["msg"])))
