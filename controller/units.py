"""The units of a host's program, each compiled by itself from the index. Pure.

A controller holds of a unit only what it has put into the switch, not its flows: ten thousand endpoints have fifty thousand flows, which would
take more memory than all that they are derived from. What is needed again is compiled again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from controller.compiler.compile import (
    Program,
    compile_base,
    compile_endpoint,
    compile_network,
    compile_peer,
    compile_policy,
    compile_service,
    compile_session,
    compile_tunnel_port,
    compile_virtual,
)
from intent.incremental.delta import Delta
from intent.incremental.index import Index
from intent.views import EndpointView, NetworkView, VirtualView
from pipeline.flow import Flow, Group, Origin, SwitchMeter, ToController
from pipeline.tunnels import profile_number

Unit = tuple[str, Hashable]


class Footprint(NamedTuple):
    """What the program of a unit puts into the switch."""

    cookies: tuple[int, ...] = ()
    groups: tuple[Group, ...] = ()
    meters: tuple[SwitchMeter, ...] = ()


NOTHING = Footprint()


class FlowRefusal(NamedTuple):
    """A flow that the switch refuses: the object that it is for, and why."""

    origin: Origin
    reason: str


def footprint(program: Program) -> Footprint:
    """Return what a program puts into the switch."""
    return Footprint(tuple([flow.cookie for flow in program.flows]), program.groups, program.meters)


def is_watched(flow: Flow) -> bool:
    """Return whether the switch may tell of this flow: it counts the packets of rules and those that it drops, and sends packets to the
    controller."""
    return flow.origin.kind == "acl" or not flow.actions or ToController in map(type, flow.actions)


_VIEWS: dict[str, Callable[[Index, Any], Any]] = {
    "base": lambda index, _: index,
    "tunnel-port": lambda index, port: port if port in index.tunnels.udp_ports else None,
    "peer": lambda index, vtep: vtep if vtep in index.hosts.peers else None,
    "network": lambda index, network_id: index.networks.get(network_id),
    "endpoint": lambda index, endpoint_id: index.endpoints.get(endpoint_id),
    "policy": lambda index, key: index.policies.enforced(key),
    "session": lambda index, name: index.sessions.get(name),
    "service": lambda index, name: index.services.views.get(name),
    "virtual": lambda index, key: index.virtuals.views.get(key),
}
_COMPILERS: dict[str, Callable[[Any, int | None], Program]] = {
    "base": lambda _, tunnel: compile_base(tunnel),
    "tunnel-port": lambda port, _: compile_tunnel_port(port),
    "peer": compile_peer,
    "network": compile_network,
    "endpoint": compile_endpoint,
    "policy": lambda policy, _: compile_policy(policy),
    "session": compile_session,
    "service": lambda service, _: compile_service(service),
    "virtual": compile_virtual,
}


def compile_unit(unit: Unit, index: Index) -> Program | None:
    """Return the program of a unit as the index is now; None if the unit is no more."""
    kind, key = unit
    view = _VIEWS[kind](index, key)
    if view is None:
        return None
    number = profile_number(view.vni) if isinstance(view, NetworkView | EndpointView | VirtualView) else 0
    return _COMPILERS[kind](view, index.tunnels.ofports.get(number))


def touched_units(delta: Delta, index: Index, *, beginning: bool) -> list[Unit]:
    """Return the units to compile after a change: all of them in the beginning, and all that depend on the port of a profile's
    tunnels when that has changed."""
    parts: dict[str, set[Any]] = {
        "tunnel-port": set(delta.tunnel_ports),
        "peer": set(delta.peers),
        "network": set(delta.networks),
        "endpoint": set(delta.endpoints),
        "policy": set(delta.policies),
        "session": set(delta.sessions),
        "service": set(delta.services),
        "virtual": set(delta.virtuals),
    }
    views: dict[str, Mapping[Any, Any]] = {
        "network": index.networks,
        "endpoint": index.endpoints,
        "virtual": index.virtuals.views,
    }
    for kind, of_kind in views.items() if delta.tunnels or beginning else ():
        parts[kind] |= {key for key, view in of_kind.items() if beginning or profile_number(view.vni) in delta.tunnels}
    if 0 in delta.tunnels or beginning:
        parts["base"] = {""}
        parts["peer"] |= index.hosts.peers
        parts["session"] |= index.sessions.keys()
    if beginning:
        parts["tunnel-port"] |= index.tunnels.udp_ports
        parts["policy"] |= index.policies.views.keys()
        parts["service"] |= index.services.views.keys()
    return [(kind, key) for kind, keys in parts.items() for key in keys]
