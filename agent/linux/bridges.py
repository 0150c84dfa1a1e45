"""Finds Linux bridges that connect only containers and virtual machines of this host, such as docker0."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from warren.errors import Unavailable

VIRTUAL = frozenset(("veth", "tun"))  # kinds of interfaces of containers and virtual machines (tun: taps, too)
AGE_S = 30.0  # how long the answer for a bridge is kept: listing its ports costs time with many containers


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridges:
    """The names of a host's Linux bridges. `internal` bridges have only ports of containers and virtual machines, or none;
    `external` bridges lead to other machines."""

    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ()


class BridgeReader:
    """Reads the host's bridges. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._internal: dict[tuple[int, str], tuple[float, bool]] = {}  # (index, name) -> when it was read, and the answer

    def read(self) -> Bridges:
        """Return the bridges now. Raises `Unavailable`."""
        try:
            with IPRoute() as netlink:
                bridges = {
                    (int(link["index"]), str(link.get_attr("IFLA_IFNAME"))) for link in netlink.link("dump", kind="bridge")
                }
                self._internal = {bridge: self._read_ports(netlink, bridge) for bridge in bridges}
        except NetlinkError as error:
            raise Unavailable("the list of interfaces", error.args[1] if len(error.args) > 1 else str(error)) from None
        internal = {name for (_, name), (_, is_internal) in self._internal.items() if is_internal}
        return Bridges(internal=tuple(sorted(internal)), external=tuple(sorted({name for _, name in bridges} - internal)))

    def _read_ports(self, netlink: IPRoute, bridge: tuple[int, str]) -> tuple[float, bool]:
        last_reading = self._internal.get(bridge)
        if last_reading is not None and self._clock() - last_reading[0] < AGE_S:
            return last_reading
        kinds = {link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for link in netlink.link("dump", master=bridge[0])}
        return self._clock(), kinds <= VIRTUAL
