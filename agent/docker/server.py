"""Docker's plugin protocol over HTTP.

It is an ASGI application of its own, because engines send an empty Host, no Content-Type, and no body at all when they
repeat a call. Errors are HTTP 200 with `Err` (network driver) or `Error` (IPAM driver), whose text users see.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agent.docker.bodies import check
from agent.docker.driver import Call, Driver
from agent.docker.networks import DRIVER_NAME
from warren.errors import Invalid, Unavailable, WarrenError

log = logging.getLogger("warren.docker")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
NO_BODY = {"Plugin.Activate", "NetworkDriver.GetCapabilities", "IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces"}
BODY_LIMIT = 1_000_000
# Docker starts a container once, also when etcd or the controller starts at the same moment in another container: these calls wait
STARTING = {
    "IpamDriver.RequestAddress",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.Join",
    "NetworkDriver.ProgramExternalConnectivity",
}
PATIENCE_S, PAUSE_S = 20.0, 0.5


def application(driver: Driver, driver_name: str = "warren") -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Return the ASGI application for one of the driver's names."""

    async def serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while len(body) <= BODY_LIMIT:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        name = str(scope["path"]).strip("/")
        status, answer = await asyncio.get_running_loop().run_in_executor(
            None, lambda: answer_to(driver, name, body, driver_name)
        )
        data = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/vnd.docker.plugins.v1.2+json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return serve


def answer_to(driver: Driver, name: str, body: bytes, driver_name: str = "warren") -> tuple[int, dict[str, Any]]:
    """Return HTTP status and data for one call."""
    call = driver.calls.get(name)
    if call is None:
        return 404, _error(f"no such call: {name}")
    try:
        if not body.strip() and name not in NO_BODY:
            return 200, _error("empty request body (Docker retried a call during an agent restart); retry the command")
        data = json.loads(body) if body.strip() else {}
        if not isinstance(data, dict):
            raise Invalid("request", data, "a JSON object")
        check(data)
        began = time.monotonic()
        answer = _patiently(call, data | {DRIVER_NAME: driver_name}, PATIENCE_S if name in STARTING else 0.0)
        log.debug("docker.answered call=%s ms=%.1f", name, (time.monotonic() - began) * 1000)
        return 200, answer
    except (ValueError, KeyError, RecursionError) as error:
        return 200, _error(f"malformed request: {type(error).__name__}: {error}")
    except WarrenError as error:
        log.info("docker.refused call=%s reason=%s", name, error)
        return 200, _error(str(error))
    except Exception as error:  # no traceback reaches a user
        log.exception("docker.failed call=%s", name)
        return 200, _error(f"internal error: {type(error).__name__}")


def _patiently(call: Call, body: dict[str, Any], patience_s: float) -> dict[str, Any]:
    """Call, and again for a while if etcd, OVSDB or the controller does not answer."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call(body)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def _error(text: str) -> dict[str, Any]:
    return {"Err": text, "Error": text}
