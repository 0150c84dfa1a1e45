"""Other hosts that ask containers of networks in mode routed themselves, and the way back to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from intent.gateway import Gateway
from specs.model.host import Host


class HostPath(NamedTuple):
    """An address from which another host asks containers of routed networks, and the VTEP by which this host reaches that host."""

    address: str
    vtep: str


def hosts_that_ask(gateway: Gateway | None, paths: Iterable[HostPath], local: Host | None) -> tuple[tuple[HostPath, ...], str]:
    """The paths to the other hosts with members of a network, and this host's own address, if the network is in mode routed."""
    if gateway is None or gateway.nat or local is None:
        return (), ""
    return tuple(sorted(paths)), str(local.vtep)
