"""An ASGI layer that bounds the length of a request's body, before anything parses it."""

from __future__ import annotations

import json
from typing import Any

from warren.errors import MISSING, Invalid

BODY_LIMIT = 1_048_576  # bytes
LARGER = {"/apply": 9 * BODY_LIMIT}  # a document of 8 MiB, as JSON text
DRAIN_LIMIT = 64 * BODY_LIMIT  # a client that is still sending would lose an answer to a reset connection


class BodyLimit:
    """Answers 413 in JSON when a body is longer than `BODY_LIMIT`; otherwise hands the application the whole body."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        limit = LARGER.get(scope["path"], BODY_LIMIT)
        body, length, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunk = message.get("body", b"")
            length += len(chunk)
            more = message.get("more_body", False)
            if length <= limit:
                body += chunk
            elif length > DRAIN_LIMIT:
                break
        if length > limit:
            await _refuse(send, limit)
            return
        given = False

        async def replay() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        # SAND parses every body as JSON, whatever Content-Type its client (or curl -d) sends
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        await self.app({**scope, "headers": [*headers, (b"content-type", b"application/json")]}, replay, send)


async def _refuse(send: Any, limit: int) -> None:
    error = Invalid("body", MISSING, f"at most {limit} bytes", problem=f"it is longer than {limit} bytes")
    answer = json.dumps({"error": str(error), "detail": error.fields()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
