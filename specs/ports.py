"""Subports: endpoints without a veth of their own. They share the OpenFlow port of an interface of the host, or of another endpoint. Pure.

`port` names an interface of the host, such as a physical one: every machine behind it, which the specs do not know, is on the network.
`parent` names an endpoint of the same host, such as a router's or a virtual machine's: frames with the tag `vlan` on its port belong
to this endpoint, on another network. Several subports with different tags make an interface or a container a trunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from specs.model.endpoint import Endpoint


def is_subport(endpoint: Endpoint) -> bool:
    """Whether an endpoint shares the OpenFlow port of an interface or of another endpoint."""
    return endpoint.port is not None or endpoint.parent is not None


def has_unknown_macs(endpoint: Endpoint) -> bool:
    """Whether frames to addresses that no endpoint has may be for a machine behind this one. Nothing is behind a coprocessor."""
    return endpoint.port is not None and endpoint.coprocessor is None


def carrier(endpoint: Endpoint) -> str:
    """What a subport shares the port of: an endpoint's id, or `interface/NAME`."""
    return f"interface/{endpoint.port}" if endpoint.port is not None else str(endpoint.parent)


def ofport_of(
    endpoint_id: str, endpoint: Endpoint | None, host: str, ports: Mapping[str, int], interfaces: Mapping[str, int]
) -> int | None:
    """The OpenFlow port on `host` that an endpoint's frames come from. `ports` are those of endpoints with their own, by id;
    `interfaces` those of interfaces, by name."""
    if endpoint is None or not is_subport(endpoint):
        return ports.get(endpoint_id)
    if endpoint.host != host:
        return None
    return interfaces.get(endpoint.port) if endpoint.port is not None else ports.get(str(endpoint.parent))


def ofports(
    endpoints: Mapping[str, Endpoint], host: str, ports: Mapping[str, int], interfaces: Mapping[str, int]
) -> dict[str, int]:
    """The OpenFlow ports of all endpoints on `host`, by id; those that have none yet are left out."""
    ids = {*ports, *(e.id for e in endpoints.values() if is_subport(e))}
    by_id = {e: ofport_of(e, endpoints.get(e), host, ports, interfaces) for e in ids}
    return {endpoint_id: ofport for endpoint_id, ofport in by_id.items() if ofport is not None}


def requested_interfaces(endpoints: Iterable[Endpoint], host: str) -> dict[str, int]:
    """The interfaces of a host that active endpoints are behind, with the OpenFlow port to request for each."""
    requests: dict[str, int] = {}
    for endpoint in endpoints:
        if endpoint.port is not None and endpoint.host == host and endpoint.active:
            requests[endpoint.port] = min(endpoint.ofport, requests.get(endpoint.port, endpoint.ofport))
    return requests


@dataclass(slots=True)
class Bindings:
    """The OpenFlow ports of the endpoints of one host, updated change by change. Each change returns the endpoints whose port may
    differ."""

    host: str
    endpoints: Mapping[str, Endpoint]  # the snapshot's
    own_ports: dict[str, int] = field(default_factory=dict)  # of endpoints that are no subports, by id
    interfaces: dict[str, int] = field(default_factory=dict)
    _subports: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # carrier -> ids of its subports

    def ofport(self, endpoint_id: str) -> int | None:
        """The OpenFlow port of an endpoint now."""
        return ofport_of(endpoint_id, self.endpoints.get(endpoint_id), self.host, self.own_ports, self.interfaces)

    def set_own_ports(self, ofports: Mapping[str, int]) -> set[str]:
        """Replace the ports of endpoints that are no subports."""
        moved = {e for e in {*self.own_ports, *ofports} if self.own_ports.get(e) != ofports.get(e)}
        self.own_ports = dict(ofports)
        return moved | {subport for endpoint_id in moved for subport in self._subports.get(endpoint_id, ())}

    def set_interfaces(self, ofports: Mapping[str, int]) -> set[str]:
        """Replace the ports of interfaces, by name."""
        moved = {name for name in {*self.interfaces, *ofports} if self.interfaces.get(name) != ofports.get(name)}
        self.interfaces = dict(ofports)
        return {subport for name in moved for subport in self._subports.get(f"interface/{name}", ())}

    def requested_interfaces(self) -> dict[str, int]:
        """The interfaces that endpoints need on the bridge, with the OpenFlow port to request for each."""
        endpoints = (self.endpoints.get(subport) for subports in self._subports.values() for subport in subports)
        return requested_interfaces((endpoint for endpoint in endpoints if endpoint is not None), self.host)

    def change_record(self, endpoint_id: str, old: Endpoint | None, new: Endpoint | None) -> None:
        """The record of an endpoint was created, changed or deleted."""
        if old is not None and is_subport(old):
            self._subports[carrier(old)].discard(endpoint_id)
        if new is not None and is_subport(new):
            self._subports[carrier(new)].add(endpoint_id)


def port_claims(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """The values that only one endpoint can have on a port, as (scope, value): the network, and the VLAN tag."""
    if not is_subport(endpoint):
        return ((endpoint.id, f"network {endpoint.network_id} on the port of {endpoint.id}"),)
    port = f"the port of {endpoint.parent}" if endpoint.parent is not None else f"{endpoint.port} of {endpoint.host}"
    scope = endpoint.parent or port
    tag = f"VLAN {endpoint.vlan}" if endpoint.vlan else "untagged frames"
    return (scope, f"network {endpoint.network_id} on {port}"), (scope, f"{tag} on {port}")
