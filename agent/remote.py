"""Requests about another host: that host's agent answers them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header

from agent.lookup import Lookup
from agent.peers import Peers
from specs.model.host import Host
from warren.errors import Unavailable

# set by an agent that passes a request on: it is passed on once
Forwarded = Annotated[str | None, Header(alias="X-Warren-Forwarded", include_in_schema=False)]


class Remote:
    """The other hosts, as the routes of this host's agent see them."""

    def __init__(self, host: Host, lookup: Lookup, peers: Peers) -> None:
        self.host, self._lookup, self._peers = host, lookup, peers

    def is_local(self, name: str, forwarded: str | None = None) -> bool:
        """Whether a request about host `name` is this agent's to answer. Raises `Unavailable` for one that was passed on to the wrong agent."""
        if name == self.host.name:
            return True
        if forwarded:
            raise Unavailable(f"the agent of {name}", "its record's URL leads to another agent")
        return False

    def request(self, name: str, method: str, path: str, **arguments: Any) -> Any:
        """Ask the agent of host `name`; its response. Raises `NotFound`, `Unavailable`, and what that agent answers."""
        return self._peers.request(self._lookup.host(name), method, path, **arguments)

    def ask(self, name: str, method: str, path: str, **arguments: Any) -> Any:
        """Ask for something below `/hosts/NAME`; the JSON of the answer. Raises as `request`."""
        return self.request(name, method, f"/hosts/{name}{path}", **arguments).json()
