"""Finds an agent and talks to it. Every failure is a `Failure` of one line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx

LABS = Path("/run/warren-lab")
DEFAULT_SOCKET = "/run/warren/agent.sock"
TIMEOUT_S = 60.0


class Failure(Exception):
    """What went wrong, in one line for the user; the command exits with 2."""


@dataclass(frozen=True, slots=True)
class Where:
    """What the user said about where the agent is."""

    url: str | None = None
    lab: str | None = None


def candidates(where: Where, env: Mapping[str, str]) -> list[str]:
    """URLs at which the agent may be, best first: --url, --lab, WARREN_URL, WARREN_LAB, a lab that is up, this host's."""
    if where.url:
        return [where.url]
    if where.lab:
        return _of_lab(where.lab)
    if env.get("WARREN_URL") or env.get("SAND_API_URL"):
        return [env.get("WARREN_URL") or env["SAND_API_URL"]]
    if env.get("WARREN_LAB"):
        return _of_lab(env["WARREN_LAB"])
    labs = sorted(path.parent.name for path in LABS.glob("*/lab.json"))
    if len(labs) > 1:
        raise Failure(f"several labs are up ({', '.join(labs)}): say which with --lab NAME")
    if labs:
        return _of_lab(labs[0])
    return [f"unix://{env.get('WARREN_SOCKET') or DEFAULT_SOCKET}"]


def _of_lab(name: str) -> list[str]:
    """The agents of a lab in the order of its hosts: any of them answers for all."""
    if not (LABS / name / "lab.json").exists():
        raise Failure(f"lab {name!r} is not up (warren lab up --lab {name})")
    sockets = sorted((LABS / name).glob("*/agent.sock"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not sockets:
        raise Failure(f"lab {name!r} has no agent running (warren lab start h1 agent)")
    return [f"unix://{path}" for path in sockets]


class Stream:
    """An answer without end; iterate over its pieces."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer, self._cut = answer, False
        self.headers: Mapping[str, str] = answer.headers

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_raw()
        except (httpx.HTTPError, OSError) as error:
            if not self._cut:
                raise Failure(f"the agent breaks off: {error}") from None

    def cut(self) -> None:
        """End it from another thread: whoever waits for a piece waits no longer."""
        self._cut = True
        stream = self._answer.extensions.get("network_stream")
        if stream is not None and (connection := stream.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Client:
    """An agent's HTTP API."""

    def __init__(self, where: Where, env: Mapping[str, str] = os.environ) -> None:
        self._urls = candidates(where, env)
        self._env = env
        self._http: httpx.Client | None = None

    def get(self, path: str, **params: Any) -> Any:
        """GET; parameters that are None are left out."""
        return self._json("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST of a JSON body."""
        return self._json("POST", path, json=dict(body))

    def put(self, path: str) -> Any:
        """PUT without a body."""
        return self._json("PUT", path)

    @contextlib.contextmanager
    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Stream]:
        """POST of a JSON body; the answer comes in pieces, for as long as it takes."""
        answer = self._request("POST", path, stream=True, json=dict(body))
        try:
            if answer.status_code >= 400:
                answer.read()
                self._refuse(answer)
            yield Stream(answer)
        finally:
            answer.close()

    def delete(self, path: str) -> None:
        """DELETE."""
        self._json("DELETE", path)

    def _json(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._request(method, path, **kwargs)
        if answer.status_code >= 400:
            self._refuse(answer)
        if answer.headers.get("content-type", "").startswith("application/json"):
            return json.loads(answer.content)
        return answer.text

    @staticmethod
    def _refuse(answer: httpx.Response) -> NoReturn:
        try:
            message = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            message = f"the agent answers {answer.status_code} {answer.reason_phrase}"
        raise Failure(" ".join(str(message).split()))

    def _request(self, method: str, path: str, *, stream: bool = False, **kwargs: Any) -> httpx.Response:
        """The first agent that can be connected to takes it all; a request that was sent is never sent again."""
        for url in list(self._urls):
            if self._http is None:
                self._http = self._connect(url)
            try:
                if not stream:
                    return self._http.request(method, path, **kwargs)
                patient = httpx.Timeout(TIMEOUT_S, read=None)
                return self._http.send(self._http.build_request(method, path, timeout=patient, **kwargs), stream=True)
            except httpx.ConnectError as error:
                reason: Exception = error
            except httpx.TimeoutException:
                raise Failure(f"the agent at {url} does not answer in {TIMEOUT_S:.0f} s") from None
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise Failure(f"the agent at {url} breaks off: {error}") from None
            self._http = None
            self._urls.pop(0)
            last = url
        raise Failure(f"no agent at {last}: {_plain(reason)} (is warren-agent running? --url or WARREN_URL say where)")

    def _connect(self, url: str) -> httpx.Client:
        if url.startswith(("unix://", "/")):
            transport = httpx.HTTPTransport(uds=url.removeprefix("unix://"))
            return httpx.Client(base_url="http://agent", transport=transport, timeout=TIMEOUT_S, trust_env=False)
        if not url.startswith(("http://", "https://")):
            raise Failure(f"{url!r} is no URL of an agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH")
        verify: ssl.SSLContext | bool = self._tls() if url.startswith("https://") else True
        try:
            return httpx.Client(base_url=url, verify=verify, timeout=TIMEOUT_S, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise Failure(f"{url!r} is no URL of an agent: {error}") from None

    def _tls(self) -> ssl.SSLContext:
        """WARREN_TLS_CERT, _KEY and _CA, or SAND's names for them."""
        cert, key, ca = (
            self._env.get(f"WARREN_TLS_{ours}") or self._env.get(f"SAND_{sands}_FILE")
            for ours, sands in (("CERT", "CERT"), ("KEY", "KEY"), ("CA", "CA"))
        )
        try:
            context = ssl.create_default_context(cafile=ca)
            if cert and key:
                context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise Failure(f"TLS files (WARREN_TLS_CERT, WARREN_TLS_KEY, WARREN_TLS_CA): {error}") from None
        return context


def _plain(error: Exception) -> str:
    text = str(error)
    return text.partition("] ")[2] or text or type(error).__name__
