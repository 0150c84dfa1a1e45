"""Compiles intent to flows: a pure function of a host's view, as a whole or unit by unit.

A unit is a part that can change alone: the base, one UDP port of tunnels, one other host, one network, one endpoint, one policy, one mirror session, one
service, one virtual address or MAC. The flows of a view are the union of its units' flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acl.policy import PolicyView
from controller.compiler.features import (
    acl,
    arp,
    classify,
    conntrack,
    dhcp,
    flood,
    forward,
    guard,
    mirror,
    nat,
    output,
    route,
    spoof,
)
from intent.services import ServiceView
from intent.views import EndpointView, NetworkView, View, VirtualView
from mirror.sessions import MirrorSession
from pipeline.flow import Ct, Flow, Goto, Group, Origin, SwitchMeter
from pipeline.tables import OWNER, TABLES, Miss, after
from pipeline.tunnels import profile_number

Part = Flow | Group | SwitchMeter

# The features that compile each kind of unit, under the name by which a table names its owner.
BASE: dict[str, Callable[[int | None], Iterator[Part]]] = {
    "classify": classify.base,
    "spoof": spoof.base,
    "arp": arp.base,
    "conntrack": conntrack.base,
    "acl": acl.base,
    "forward": forward.base,
    "output": output.base,
}
NETWORK: dict[str, Callable[[NetworkView, int | None], Iterator[Part]]] = {
    "classify": classify.network,
    "guard": guard.network,
    "arp": arp.network,
    "conntrack": conntrack.network,
    "nat": nat.network,
    "route": route.network,
    "forward": forward.network,
    "flood": flood.network,
    "output": output.network,
}
ENDPOINT: dict[str, Callable[[EndpointView, int | None], Iterator[Part]]] = {
    "classify": classify.endpoint,
    "guard": guard.endpoint,
    "spoof": spoof.endpoint,
    "arp": arp.endpoint,
    "dhcp": dhcp.endpoint,
    "nat": nat.endpoint,
    "route": route.endpoint,
    "forward": forward.endpoint,
    "mirror": mirror.endpoint,
    "output": output.endpoint,
}
POLICY: dict[str, Callable[[PolicyView], Iterator[Part]]] = {"acl": acl.policy}
SESSION: dict[str, Callable[[MirrorSession, int | None], Iterator[Part]]] = {
    "classify": classify.session,
    "mirror": mirror.session,
}
PEER: dict[str, Callable[[str, int | None], Iterator[Part]]] = {"classify": classify.peer}
SERVICE: dict[str, Callable[[ServiceView], Iterator[Part]]] = {"nat": nat.service, "route": route.service}
TUNNEL_PORT: dict[str, Callable[[int], Iterator[Part]]] = {"route": route.tunnel_port}
VIRTUAL: dict[str, Callable[[VirtualView, int | None], Iterator[Part]]] = {
    "guard": guard.virtual,
    "route": route.virtual,
    "forward": forward.virtual,
}


@dataclass(frozen=True, slots=True)
class Program:
    """What a switch should hold for one unit, or for all."""

    flows: tuple[Flow, ...] = ()
    groups: tuple[Group, ...] = ()
    meters: tuple[SwitchMeter, ...] = ()


def compile_base(tunnel: int | None) -> Program:
    """Return the flows of every host: misses, and flows that belong to no spec."""
    misses = tuple(_misses())
    rest = _program((name, feature(tunnel)) for name, feature in BASE.items())
    return Program(misses + rest.flows, rest.groups)


def compile_peer(vtep: str, tunnel: int | None) -> Program:
    """Return the flows and the meter for another host."""
    return _program((name, feature(vtep, tunnel)) for name, feature in PEER.items())


def compile_network(network: NetworkView, tunnel: int | None) -> Program:
    """Return the flows and groups of one network."""
    return _program((name, feature(network, tunnel)) for name, feature in NETWORK.items())


def compile_endpoint(endpoint: EndpointView, tunnel: int | None) -> Program:
    """Return the flows of one endpoint, local or remote."""
    return _program((name, feature(endpoint, tunnel)) for name, feature in ENDPOINT.items())


def compile_policy(policy: PolicyView) -> Program:
    """Return the flows of one policy."""
    return _program((name, feature(policy)) for name, feature in POLICY.items())


def compile_session(session: MirrorSession, tunnel: int | None) -> Program:
    """Return the flows and the group of one mirror session."""
    return _program((name, feature(session, tunnel)) for name, feature in SESSION.items())


def compile_service(service: ServiceView) -> Program:
    """Return the flows and the groups of one service."""
    return _program((name, feature(service)) for name, feature in SERVICE.items())


def compile_tunnel_port(port: int) -> Program:
    """Return the flows that keep endpoints from the UDP port of a tunnel profile."""
    return _program((name, feature(port)) for name, feature in TUNNEL_PORT.items())


def compile_virtual(virtual: VirtualView, tunnel: int | None) -> Program:
    """Return the flows and the groups of one virtual address or MAC."""
    return _program((name, feature(virtual, tunnel)) for name, feature in VIRTUAL.items())


def compile_view(view: View) -> Program:
    """Return all flows and groups of a host, sorted: the full recompute."""
    tunnels, default = view.tunnels, view.tunnels.get(0)

    def tunnel(part: NetworkView | EndpointView | VirtualView) -> int | None:
        return tunnels.get(profile_number(part.vni))

    units = [compile_base(default)]
    units += [compile_tunnel_port(port) for port in view.tunnel_ports]
    units += [compile_peer(vtep, default) for vtep in view.peers]
    units += [compile_network(network, tunnel(network)) for network in view.networks]
    units += [compile_endpoint(endpoint, tunnel(endpoint)) for endpoint in view.endpoints]
    units += [compile_policy(policy) for policy in view.policies]
    units += [compile_session(session, default) for session in view.sessions]
    units += [compile_service(service) for service in view.services]
    units += [compile_virtual(virtual, tunnel(virtual)) for virtual in view.virtuals]
    flows = {flow.cookie: flow for unit in units for flow in unit.flows}
    groups = {group.group_id: group for unit in units for group in unit.groups}
    assert len(flows) == sum(len(unit.flows) for unit in units), "two units compiled the same flow"
    return Program(
        tuple(sorted(flows.values(), key=lambda f: (f.table, -f.priority, repr(f.match)))),
        tuple(groups[group_id] for group_id in sorted(groups)),
        tuple(sorted({meter for unit in units for meter in unit.meters}, key=lambda meter: meter.meter_id)),
    )


def _misses() -> Iterator[Flow]:
    """Return the misses. A drop needs no flow (OpenFlow 1.4, section 5.4), but a flow counts the dropped packets."""
    for spec in TABLES:
        actions = (Goto(after(spec.table)),) if spec.miss is Miss.NEXT else ()
        yield Flow(spec.table, 0, (), actions, Origin("pipeline", "miss"))


def _program(parts: Iterator[tuple[str, Iterator[Part]]]) -> Program:
    flows: list[Flow] = []
    groups: list[Group] = []
    meters: list[SwitchMeter] = []
    for name, items in parts:
        for item in items:
            if isinstance(item, Group):
                groups.append(item)
                continue
            if isinstance(item, SwitchMeter):
                meters.append(item)
                continue
            assert OWNER[item.table] == name, f"{name} put a flow into {item.table.name}: {item}"
            assert not _goes_back(item), f"a packet may only move to a later table: {item}"
            flows.append(item)
    once = {group.group_id: group for group in groups}  # two features may make the same group
    return Program(tuple(flows), tuple(once.values()), tuple(meters))


def _goes_back(flow: Flow) -> bool:
    for action in flow.actions:
        if isinstance(action, (Goto, Ct)) and action.table is not None and action.table <= flow.table:
            return True
    return False
