"""What both clients share about HTTP: how agents are tried in turn, and how httpx's answers and failures become results and exceptions."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from warren.client.agents import DEFAULT_URL, Agent, tls_context
from warren.client.calls import Call
from warren.client.errors import AgentUnreachable, Error, NoAnswer, refusal

CONNECT_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 3.0  # how often an agent is told that somebody reads a capture; it ends one after ten seconds of silence
CAPTURE_NAME = "x-warren-capture"
STRICT = {"prefer": "handling=strict"}  # no field is read liberally, as SAND's server does


class Agents:
    """The agents of a client, in the order in which they are tried: the one that answered last comes first."""

    def __init__(self, urls: Sequence[str], tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._agents = [Agent.at(url) for url in urls or (DEFAULT_URL,)]
        self._current = 0
        self._tls = tls
        self.timeout_s = timeout_s

    def __iter__(self) -> Iterator[Agent]:
        """Each agent once. One that is connected to stays the first; a request that was sent is never sent to another."""
        first = self._current
        for number in range(len(self._agents)):
            self._current = (first + number) % len(self._agents)
            yield self._agents[self._current]
        self._current = first

    @property
    def tls(self) -> ssl.SSLContext:
        """Return the TLS context for https URLs: the caller's, or one with the system's authorities and no client certificate."""
        if self._tls is None:
            self._tls = tls_context()
        return self._tls

    def options(self, agent: Agent) -> dict[str, Any]:
        """Arguments for httpx's clients, but the transport."""
        timeout = httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S))
        return {"base_url": agent.base_url, "timeout": timeout, "trust_env": False}

    def request(self, client: httpx.Client | httpx.AsyncClient, call: Call, stream: bool) -> httpx.Request:
        """A call as httpx's request; a stream that reports no progress may be silent for as long as it likes."""
        request = client.build_request(
            call.method, call.path, headers=STRICT, json=None if call.body is None else dict(call.body)
        )
        if stream and call.progress is None:
            request.extensions["timeout"] = httpx.Timeout(self.timeout_s, read=None).as_dict()
        return request

    def no_answer(self, agent: Agent, error: Exception) -> Error:
        """The exception for a request that was sent, or could not be."""
        if isinstance(error, (httpx.TimeoutException, TimeoutError)):
            return NoAnswer(f"the agent at {agent.url} does not answer in {self.timeout_s:.0f} s")
        return NoAnswer(f"the agent at {agent.url} breaks off: {plain(error)}")


def unreachable(agent: Agent, error: Exception) -> AgentUnreachable:
    """The exception for an agent that cannot be connected to."""
    return AgentUnreachable(f"no agent at {agent.url}: {plain(error)}")


def answer(call: Call, response: httpx.Response) -> Any:
    """The JSON object of an answer that was read, or its text where the call wants that. Raises `Refused`, and `NoAnswer` for another answer."""
    if response.status_code >= 400:
        raise refusal(response.status_code, response.reason_phrase, response.content)
    if call.text:
        return response.text
    try:
        data = json.loads(response.content or b"{}")
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise no_object(call)
    return data


class Lines:
    """Takes the lines of an answer that reports its progress."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._last: Any = None

    def take(self, line: str) -> None:
        """Report a line, or keep it if it is the answer. Raises `Refused` for an error."""
        if not line.strip():
            return
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise no_object(self._call)
        if "error" in data:
            raise refusal(int(data.get("status") or 0), "", line.encode())
        if "phase" in data:
            assert self._call.progress is not None
            self._call.progress(data)
        else:
            self._last = data

    def answer(self) -> Any:
        """The answer. Raises `NoAnswer` if it has not come."""
        if self._last is None:
            raise NoAnswer(f"the agent breaks off {self._call.method} {self._call.path}; the same request again makes the rest")
        return self._last


def no_object(call: Call) -> NoAnswer:
    """The exception for an answer that no agent gives."""
    return NoAnswer(f"the answer to {call.method} {call.path} is no JSON object: is that an agent?")


def capture_call(endpoint: str, direction: str, match: Sequence[Mapping[str, Any]] | None, snap: int | None) -> Call:
    """The request that begins a capture."""
    body = {"endpoint": endpoint, "direction": direction}
    more = {"match": None if match is None else list(match), "snap": snap}
    return Call("POST", "/captures", body | {name: value for name, value in more.items() if value is not None})


def plain(error: Exception) -> str:
    """An error's text without `[Errno 2] `."""
    text = str(error)
    return text.partition("] ")[2] or text or type(error).__name__
