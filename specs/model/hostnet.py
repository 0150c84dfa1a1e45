"""The network of a host without Warren: the addresses that the host has, reaches or needs. Each agent publishes that of its host. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import BaseModel, ConfigDict

from specs.model.base import Name, Record

PREFIXES_LIMIT = 256  # of one host; of more, the first are published (agent/gateway/host_prefixes.py)


class HostPrefix(BaseModel):
    """Addresses that a host reaches without Warren. `interface`: directly; `route`: through a gateway, `via` names it; `etcd`, `dns`:
    the host needs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: IPv4Network | IPv6Network
    kind: Literal["interface", "route", "etcd", "dns", "vtep", "api"]
    via: str = ""

    def on(self, host: str) -> str:
        """The prefix, and what it is to its host."""
        single = self.prefix.prefixlen == self.prefix.max_prefixlen
        shown = str(self.prefix.network_address if single else self.prefix)
        meaning = {
            "interface": f"on interface {self.via} of host {host}",
            "route": f"which host {host} reaches by {self.via}",
            "etcd": f"where host {host} has etcd",
            "dns": f"the DNS server of host {host}",
            "vtep": f"the VTEP of host {host}",
            "api": f"the address of the agent of host {host}",
        }[self.kind]
        return f"{shown}{'' if self.kind == 'interface' else ','} {meaning}"


class HostNetwork(Record):
    """What Warren must leave alone on one host."""

    name: Name
    prefixes: tuple[HostPrefix, ...] = ()
