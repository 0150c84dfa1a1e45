"""Requests about another host: that host's agent answers them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header

from agent.lookup import Lookup
from agent.peers import Peers
from specs.model.host import Host
from warren.errors import Unavailable

# an agent that forwards a request sets this header, so that the request is forwarded only once
Forwarded = Annotated[str | None, Header(alias="X-Warren-Forwarded", include_in_schema=False)]


class Remote:
    """Decides which agent answers a request, and sends requests to the agents of other hosts."""

    def __init__(self, host: Host, lookup: Lookup, peers: Peers) -> None:
        self.host, self._lookup, self._peers = host, lookup, peers

    def is_local(self, name: str, forwarded: str | None = None) -> bool:
        """Return whether this agent must answer a request about host `name`. Raises `Unavailable` for a forwarded request
        about another host."""
        if name == self.host.name:
            return True
        if forwarded:
            raise Unavailable(f"the agent of {name}", "its record's URL leads to another agent")
        return False

    def request(self, name: str, method: str, path: str, **arguments: Any) -> Any:
        """Send a request to the agent of host `name`; return its response. Raises `NotFound`, `Unavailable`, and that
        agent's errors."""
        return self._peers.request(self._lookup.host(name), method, path, **arguments)

    def request_json(self, name: str, method: str, path: str, **arguments: Any) -> Any:
        """Send a request for a path below `/hosts/NAME`; return the JSON of the response. Raises the same as `request`."""
        return self.request(name, method, f"/hosts/{name}{path}", **arguments).json()
