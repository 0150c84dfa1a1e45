"""Endpoints without a cable of their own: behind an interface of a host, or inside another endpoint's port under a VLAN tag.

`port` names an interface of the host (a physical one, say): whoever is behind it, unknown to the specs, is on the network.
`parent` names an endpoint of the same host, such as a router's or a virtual machine's: frames with the tag `vlan` on its port are
this endpoint's, on another network. Several such endpoints with different tags make an interface or a container a trunk. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from specs.model.records import Endpoint


def rides(endpoint: Endpoint) -> bool:
    """Whether its OpenFlow port is somebody else's."""
    return endpoint.port is not None or endpoint.parent is not None


def leads_on(endpoint: Endpoint) -> bool:
    """Whether frames to addresses that no endpoint has may be for somebody behind it. Nobody looks for one behind a coprocessor."""
    return endpoint.port is not None and endpoint.coprocessor is None


def anchor(endpoint: Endpoint) -> str:
    """What it rides on: an endpoint's id, or `interface/NAME`."""
    return f"interface/{endpoint.port}" if endpoint.port is not None else str(endpoint.parent)


def ofport_of(
    endpoint_id: str, endpoint: Endpoint | None, host: str, ports: Mapping[str, int], interfaces: Mapping[str, int]
) -> int | None:
    """The OpenFlow port on `host` by which an endpoint's frames come. `ports` are those of endpoints with a cable, by id;
    `interfaces` those of interfaces, by name."""
    if endpoint is None or not rides(endpoint):
        return ports.get(endpoint_id)
    if endpoint.host != host:
        return None
    return interfaces.get(endpoint.port) if endpoint.port is not None else ports.get(str(endpoint.parent))


def ofports(
    endpoints: Mapping[str, Endpoint], host: str, ports: Mapping[str, int], interfaces: Mapping[str, int]
) -> dict[str, int]:
    """The same of all: endpoint ids to OpenFlow ports."""
    ids = {*ports, *(e.id for e in endpoints.values() if rides(e))}
    found = {e: ofport_of(e, endpoints.get(e), host, ports, interfaces) for e in ids}
    return {endpoint_id: ofport for endpoint_id, ofport in found.items() if ofport is not None}


def wanted_interfaces(endpoints: Iterable[Endpoint], host: str) -> dict[str, int]:
    """The interfaces of a host that endpoints are behind, with the OpenFlow port to ask for."""
    found: dict[str, int] = {}
    for endpoint in endpoints:
        if endpoint.port is not None and endpoint.host == host and endpoint.active:
            found[endpoint.port] = min(endpoint.ofport, found.get(endpoint.port, endpoint.ofport))
    return found


@dataclass(slots=True)
class Seats:
    """The same, kept up change by change for one host. Each change returns the endpoints whose port may have moved."""

    host: str
    endpoints: Mapping[str, Endpoint]  # the snapshot's
    cables: dict[str, int] = field(default_factory=dict)
    interfaces: dict[str, int] = field(default_factory=dict)
    _riders: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # anchor -> endpoints on it

    def ofport(self, endpoint_id: str) -> int | None:
        """The OpenFlow port of one endpoint, as things are now."""
        return ofport_of(endpoint_id, self.endpoints.get(endpoint_id), self.host, self.cables, self.interfaces)

    def plug(self, ofports: Mapping[str, int]) -> set[str]:
        """The ports of endpoints that have one of their own."""
        moved = {e for e in {*self.cables, *ofports} if self.cables.get(e) != ofports.get(e)}
        self.cables = dict(ofports)
        return moved | {rider for endpoint_id in moved for rider in self._riders.get(endpoint_id, ())}

    def move_interfaces(self, ofports: Mapping[str, int]) -> set[str]:
        """The ports of interfaces, by name."""
        moved = {name for name in {*self.interfaces, *ofports} if self.interfaces.get(name) != ofports.get(name)}
        self.interfaces = dict(ofports)
        return {rider for name in moved for rider in self._riders.get(f"interface/{name}", ())}

    def wanted(self) -> dict[str, int]:
        """The interfaces that should be on the bridge for endpoints, with the OpenFlow port to ask for."""
        riders = (self.endpoints.get(rider) for riders in self._riders.values() for rider in riders)
        return wanted_interfaces((endpoint for endpoint in riders if endpoint is not None), self.host)

    def note(self, endpoint_id: str, old: Endpoint | None, new: Endpoint | None) -> None:
        """A record came, changed or went."""
        if old is not None and rides(old):
            self._riders[anchor(old)].discard(endpoint_id)
        if new is not None and rides(new):
            self._riders[anchor(new)].add(endpoint_id)


def seats(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """What only one endpoint can have on one port: the network, and the tag."""
    if not rides(endpoint):
        return ((endpoint.id, f"network {endpoint.network_id} on the port of {endpoint.id}"),)
    port = f"the port of {endpoint.parent}" if endpoint.parent is not None else f"{endpoint.port} of {endpoint.host}"
    where = endpoint.parent or port
    tag = f"VLAN {endpoint.vlan}" if endpoint.vlan else "what is untagged"
    return (where, f"network {endpoint.network_id} on {port}"), (where, f"{tag} on {port}")
