"""Inspects the switch of this host: flow dumps, packet traces, and a comparison of its flows with those that the specs
require."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.cache import Cache
from controller.compiler.compile import Program, compile_view
from controller.compiler.explain import parse_dump
from controller.compiler.packet_trace import TraceEnd, parse_trace
from intent.history import with_history
from intent.recompute import view
from ovsdb.client import Ovsdb
from ovsdb.control import Refused, appctl
from ovsdb.rows import UPLINK_PORT, interface_ports, mirror_ports, resolver_port
from ovsdb.tunnels import profile_ports
from pipeline.flow import Flow, is_our_group, is_ours
from pipeline.tables import REG_COPY, Table
from pipeline.tunnels import TUNNEL_PORT
from specs import keys
from specs.ports import requested_interfaces
from specs.snapshot import Snapshot, snapshot
from specs.store.etcd import Store
from warren.errors import Invalid, NotFound, Unavailable

TIMEOUT_S = 10.0
VERSION = "OpenFlow14"
CHECKS, CHECK_PAUSE_S = 3, 0.2
TUNNEL = "tunnel"  # where a traced packet enters that comes from another host


@dataclass(frozen=True, slots=True)
class DesiredSwitch:
    """What this host's switch should contain, computed in full from etcd and OVSDB, and names for display."""

    program: Program
    flows: Mapping[int, Flow]
    names: Mapping[str, str]
    tunnels: Mapping[int, int]  # OpenFlow ports to other hosts, by the number of their profile
    ports: Mapping[str, int]  # endpoint id -> OpenFlow port
    mirroring: frozenset[str] = frozenset()  # origins of the ACL rules that send a copy to a port

    def entrance(self, name: str) -> int | None:
        """The OpenFlow port of an endpoint, or to other hosts: `tunnel` is that of the profile `default`, `tunnel:NUMBER` that of another."""
        word, _, number = name.partition(":")
        if word != TUNNEL:
            return self.ports.get(name)
        return self.tunnels.get(int(number)) if number.isdecimal() else self.tunnels.get(0) if not number else None

    def tunnelled(self, sent: Iterable[TraceEnd]) -> list[dict[str, Any]]:
        """Those of the packets sent that go to other hosts: to which VTEP, with which VNI, and the number of their profile."""
        profiles = {ofport: number for number, ofport in self.tunnels.items()}
        return [
            {"vtep": end.vtep, "vni": end.vni, "profile": profiles[end.port]}
            for end in sent
            if end.vtep and end.port is not None and end.port in profiles
        ]


class Switch:
    """The integration bridge of this host, inspected with Open vSwitch's command line tools."""

    def __init__(self, host: str, bridge: str, store: Store, ovsdb: Ovsdb, cache: Cache) -> None:
        self._host, self._bridge, self._store, self._ovsdb, self._cache = host, bridge, store, ovsdb, cache

    def desired(self) -> DesiredSwitch:
        """Return what the switch should contain, by a full recompute."""
        ports, tunnel = self._ovsdb.ports_of_endpoints(), self._ovsdb.ofport(TUNNEL_PORT)
        state = self._specs()
        interfaces = interface_ports(requested_interfaces(state.endpoints.values(), self._host))
        tunnels = profile_ports(state.profiles, state.hosts.get(self._host))
        more = (resolver_port(), *tunnels, *interfaces, *mirror_ports(state.copied.values(), self._host))
        ofports = self._ovsdb.ofports(more)
        seen = view(state, self._host, ports, tunnel, self._ovsdb.ofport(UPLINK_PORT), ofports, self._ovsdb.encrypted())
        program = compile_view(seen)
        flows = {flow.cookie: flow for flow in program.flows}
        return DesiredSwitch(program, flows, names(state), seen.tunnels, ports, mirroring(state))

    def _specs(self) -> Snapshot:
        """All specs; while etcd is away, those that were last read: the switch forwards by them."""
        try:
            return self._cache.snapshot_without_etcd() or read_snapshot(self._store)
        except Unavailable:
            return self._cache.view.snapshot

    def flows(self) -> list[dict[str, object]]:
        """Return all flows with table names and origins."""
        desired = self.desired()
        return parse_dump(self.ofctl("dump-flows"), desired.flows, desired.names)

    def hits(self) -> dict[str, int]:
        """Return the number of packets per ACL rule (ACL#NUMBER) since its flows were installed. Clauses of a conjunctive
        match are not counted."""
        packets: Counter[str] = Counter()
        for row in self.flows():
            kind, _, name = str(row["origin"]).partition("/")
            if kind == "acl" and "conjunction(" not in str(row["actions"]):
                packets[name] += int(str(row["packets"]))
        return dict(packets)

    def copies(self, number: int) -> bool:
        """Return whether this switch has the flows of a mirror session (`Mirror.number`)."""
        match = f"table={int(Table.COPY)},{REG_COPY}={number << 1}"
        return any("cookie=" in line for line in self.ofctl("dump-flows", match))

    def check(self) -> dict[str, Any]:
        """Compare flows and groups with a full recompute; return those that are missing, and those of Warren that are
        unexpected. Repeats a comparison that differs, because the controller may be changing flows."""
        for _ in range(CHECKS):
            difference = self._check()
            if not difference["missing"] and not difference["unexpected"]:
                break
            time.sleep(CHECK_PAUSE_S)
        return difference

    def _check(self) -> dict[str, Any]:
        desired = self.desired()
        flows: dict[int, str] = {}
        for line in self.ofctl("dump-flows"):
            if match := re.search(r"cookie=(0x[0-9a-f]+)", line):
                flows[int(match[1], 16)] = re.sub(r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ", "", line.strip())
        groups = {
            int(match[1]): line.strip() for line in self.ofctl("dump-groups") if (match := re.search(r"group_id=(\d+)", line))
        }
        missing = [f"{f.origin} {f.table.name} {f.match}" for f in desired.program.flows if f.cookie not in flows]
        missing += [f"{g.origin} group {g.group_id}" for g in desired.program.groups if g.group_id not in groups]
        unexpected = [line for cookie, line in flows.items() if is_ours(cookie) and cookie not in desired.flows]
        expected_groups = {group.group_id for group in desired.program.groups}
        unexpected += [line for number, line in groups.items() if is_our_group(number) and number not in expected_groups]
        return {"host": self._host, "flows": len(desired.flows), "missing": missing, "unexpected": unexpected}

    def trace(self, flow: str, enters: str | None) -> dict[str, Any]:
        """Follow a packet through the switch. `flow` is in ovs-fields(7) syntax; `enters` is the endpoint on whose port the packet arrives, or
        `tunnel` (of the profile `default`) or `tunnel:NUMBER` (of that profile), or None for the port in `flow`."""
        if not flow.isprintable():
            raise Invalid("flow", flow, "a flow as in ovs-fields(7), without control characters")
        desired = self.desired()
        if enters is not None:
            if (port := desired.entrance(enters)) is None:
                who = enters if enters.startswith(TUNNEL) else f"endpoint {desired.names.get(enters, enters)}"
                raise NotFound(f"port on the bridge of {self._host} for", who)
            flow = re.sub(r"^in_port=\d+", f"in_port={port}", flow)
        if self._ovsdb.observed().bridge(self._bridge) is None:
            raise Unavailable(f"the switch of {self._host}", f"it has no bridge {self._bridge}")
        try:
            text = appctl("ofproto/trace", self._bridge, flow)
        except Refused as error:
            raise Invalid("flow", flow, f"a flow as in ovs-fields(7) ({error.reason})") from None
        trace = parse_trace(text, desired.flows, desired.names, desired.tunnels.values(), desired.mirroring)
        owner = {port: endpoint_id for endpoint_id, port in desired.ports.items()}
        tunnels = desired.tunnelled(trace.sent)
        return {
            "host": self._host,
            "packet": flow,
            "steps": [asdict(step) for step in trace.steps],
            "ends": [end_out(end, owner, desired.names) for end in trace.ends],
            "outputs": list(trace.outputs),
            "tunnels": tunnels,
            "to_tunnel": bool(tunnels),
            **(tunnels[0] if tunnels else {"vtep": None, "vni": None}),  # agents before `tunnels` read these
            "answered": trace.answered,
            "delivered_to": [owner[port] for port in trace.outputs if port in owner],
            "text": text,
        }

    def ofctl(self, command: str, *more: str, text: str | None = None) -> list[str]:
        """Run a command of ovs-ofctl(8) on the bridge, with `text` as its input; return the lines of its output. Raises
        `Unavailable`."""
        return _run("ovs-ofctl", "-O", VERSION, command, self._bridge, *more, text=text).splitlines()


def _run(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout).strip() or f"exit code {error.returncode}"
        raise Unavailable(command[0], reason.splitlines()[0]) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(command[0], str(error)) from None
    return done.stdout


def read_snapshot(store: Store) -> Snapshot:
    """Read all specs from etcd."""
    entries = with_history(store.list(keys.SPEC)[1], store)
    return snapshot((entry.key, entry.value, entry.create_revision) for entry in entries)


def names(state: Snapshot) -> dict[str, str]:
    """Return names by id, for display: those of networks, and NETWORK/NAME of endpoints, whose names are unique in their networks only."""
    networks = {network.id: network.name for network in state.networks.values()}
    endpoints = {e.id: f"{networks.get(e.network_id, e.network_id)}/{e.name or e.id}" for e in state.endpoints.values()}
    return networks | endpoints


def mirroring(state: Snapshot) -> frozenset[str]:
    """Return the origins of the ACL rules that send a copy to a port."""
    return frozenset(
        f"acl/{acl.name}#{number}"
        for acl in state.acls.values()
        for number, rule in enumerate(acl.parsed, 1)
        if rule.mirror is not None
    )


def end_out(end: TraceEnd, owner: Mapping[int, str], names: Mapping[str, str]) -> dict[str, Any]:
    """Return where a branch ends as plain data, with the id and the name of the endpoint at the port. `owner` maps ports to ids."""
    endpoint = owner.get(end.port) if end.port is not None else None
    return asdict(end) | {"endpoint": endpoint, "endpoint_name": names.get(endpoint, endpoint) if endpoint else None}
