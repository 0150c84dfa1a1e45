"""What the switch of this host does and why: flow dumps, traces, and whether its flows are those that the specs call for."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.compiler.compile import Program, compile_view
from controller.compiler.explain import Trace, parse_dump, parse_trace
from intent.history import with_history
from intent.recompute import view
from ovsdb.client import Ovsdb
from ovsdb.rows import TUNNEL_PORT, UPLINK_PORT, interface_ports, mirror_ports
from pipeline.flow import Flow, is_our_group, is_ours
from pipeline.tables import REG_COPY, Table
from specs import keys
from specs.ports import requested_interfaces
from specs.snapshot import Snapshot, snapshot
from specs.store.etcd import Store
from warren.errors import Unavailable

TIMEOUT_S = 10.0
VERSION = "OpenFlow14"
CHECKS, CHECK_PAUSE_S = 3, 0.2


@dataclass(frozen=True, slots=True)
class Desired:
    """What this host's switch should hold, computed in full from etcd and OVSDB, and the names of things for people."""

    program: Program
    flows: Mapping[int, Flow]
    names: Mapping[str, str]
    tunnel: int | None
    ports: Mapping[str, int]  # endpoint id -> OpenFlow port


class Switch:
    """The integration bridge of this host, through OVS's own tools."""

    def __init__(self, host: str, bridge: str, store: Store, ovsdb: Ovsdb) -> None:
        self._host, self._bridge, self._store, self._ovsdb = host, bridge, store, ovsdb

    def desired(self) -> Desired:
        """The full recompute."""
        ports, tunnel = self._ovsdb.ports_of_endpoints(), self._ovsdb.ofport(TUNNEL_PORT)
        state = read_snapshot(self._store)
        wanted = interface_ports(requested_interfaces(state.endpoints.values(), self._host))
        targets = self._ovsdb.ofports((*wanted, *mirror_ports(state.copied.values(), self._host)))
        program = compile_view(view(state, self._host, ports, tunnel, self._ovsdb.ofport(UPLINK_PORT), targets))
        return Desired(program, {flow.cookie: flow for flow in program.flows}, names(state), tunnel, ports)

    def flows(self) -> list[dict[str, object]]:
        """All flows with table names and origins."""
        wanted = self.desired()
        return parse_dump(self._ofctl("dump-flows"), wanted.flows, wanted.names)

    def hits(self) -> dict[str, int]:
        """Packets per ACL rule, as ACL#NUMBER, since its flows were installed. Clauses of a conjunctive match count nothing."""
        found: Counter[str] = Counter()
        for row in self.flows():
            kind, _, name = str(row["origin"]).partition("/")
            if kind == "acl" and "conjunction(" not in str(row["actions"]):
                found[name] += int(str(row["packets"]))
        return dict(found)

    def copies(self, number: int) -> bool:
        """Whether this switch has the flows of a mirror session (`Mirror.number`)."""
        wanted = f"table={int(Table.COPY)},{REG_COPY}={number << 1}"
        return any("cookie=" in line for line in self._ofctl("dump-flows", wanted))

    def check(self) -> dict[str, Any]:
        """Compare flows and groups with the full recompute: what is missing, what of ours is unexpected.
        A difference counts when it lasts: the controller may be at work on it."""
        for _ in range(CHECKS):
            found = self._check()
            if not found["missing"] and not found["unexpected"]:
                break
            time.sleep(CHECK_PAUSE_S)
        return found

    def _check(self) -> dict[str, Any]:
        wanted = self.desired()
        there: dict[int, str] = {}
        for line in self._ofctl("dump-flows"):
            if found := re.search(r"cookie=(0x[0-9a-f]+)", line):
                there[int(found[1], 16)] = re.sub(r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ", "", line.strip())
        groups = {
            int(found[1]): line.strip() for line in self._ofctl("dump-groups") if (found := re.search(r"group_id=(\d+)", line))
        }
        missing = [f"{f.origin} {f.table.name} {f.match}" for f in wanted.program.flows if f.cookie not in there]
        missing += [f"{g.origin} group {g.group_id}" for g in wanted.program.groups if g.group_id not in groups]
        unexpected = [line for cookie, line in there.items() if is_ours(cookie) and cookie not in wanted.flows]
        known = {group.group_id for group in wanted.program.groups}
        unexpected += [line for number, line in groups.items() if is_our_group(number) and number not in known]
        return {"host": self._host, "flows": len(wanted.flows), "missing": missing, "unexpected": unexpected}

    def trace(self, flow: str, enters: str | None) -> dict[str, Any]:
        """Follow a packet: `flow` in ovs-fields(7) syntax; `enters` is the endpoint (or `tunnel`) whose port it comes in by."""
        wanted = self.desired()
        if enters is not None:
            port = wanted.tunnel if enters == "tunnel" else wanted.ports.get(enters)
            if port is None:
                what = "tunnel port" if enters == "tunnel" else f"port for endpoint {wanted.names.get(enters, enters)}"
                raise Unavailable(f"the switch of {self._host}", f"it has no {what}")
            flow = re.sub(r"^in_port=\d+", f"in_port={port}", flow)
        text = appctl("ofproto/trace", self._bridge, flow)
        trace = parse_trace(text, wanted.flows, wanted.names, wanted.tunnel)
        owner = {port: endpoint_id for endpoint_id, port in wanted.ports.items()}
        return trace_out(self._host, flow, trace, wanted) | {
            "delivered_to": [owner[port] for port in trace.outputs if port in owner],
            "text": text,
        }

    def _ofctl(self, command: str, *more: str) -> list[str]:
        return _run("ovs-ofctl", "-O", VERSION, command, self._bridge, *more).splitlines()


def appctl(*words: str) -> str:
    """A command of ovs-vswitchd (ovs-appctl(8)); what it says. Raises `Unavailable`."""
    return _run("ovs-appctl", "-t", _control(), *words)


def datapath(ovsdb: Ovsdb, bridge: str) -> str:
    """The name of the datapath that a bridge is part of, as dpctl commands take it."""
    found = ovsdb.observed().bridge(bridge)
    kind = (found.datapath_type if found is not None else "") or "system"
    return f"{kind}@ovs-{kind}"


def _control() -> str:
    """The control socket of ovs-vswitchd: named by its pid file, or by whoever started it."""
    directory = Path(os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch")
    try:
        pid = int((directory / "ovs-vswitchd.pid").read_text())
        sockets = [directory / f"ovs-vswitchd.{pid}.ctl", directory / "ovs-vswitchd.ctl"]
    except (OSError, ValueError):
        sockets = [*sorted(directory.glob("ovs-vswitchd.*.ctl"), reverse=True), directory / "ovs-vswitchd.ctl"]
    return str(next((path for path in sockets if path.exists()), "ovs-vswitchd"))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        text = (error.stderr or error.stdout).strip() or f"exit code {error.returncode}"
        raise Unavailable(command[0], text.splitlines()[0]) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(command[0], str(error)) from None
    return done.stdout


def read_snapshot(store: Store) -> Snapshot:
    """All specs, as etcd has them now."""
    entries = with_history(store.list(keys.SPEC)[1], store)
    return snapshot((entry.key, entry.value, entry.create_revision) for entry in entries)


def names(state: Snapshot) -> dict[str, str]:
    """Ids to names, for people."""
    found = {network.id: network.name for network in state.networks.values()}
    return found | {e.id: e.name for e in state.endpoints.values() if e.name}


def trace_out(host: str, flow: str, trace: Trace, wanted: Desired) -> dict[str, Any]:
    """A trace as plain data."""
    return {
        "host": host,
        "packet": flow,
        "steps": [{"table": s.table, "matched": s.matched, "origin": s.origin, "actions": list(s.actions)} for s in trace.steps],
        "outputs": list(trace.outputs),
        "to_tunnel": wanted.tunnel is not None and wanted.tunnel in trace.outputs,
        "vtep": trace.tunnel,
        "vni": trace.tunnel_id,
        "answered": trace.answered,
    }
