"""Explains what Open vSwitch prints (ofproto/trace, dump-flows): adds table names and the spec objects behind the cookies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from controller.compiler.compile import compile_view
from intent.gateway import GATEWAY_MAC
from intent.views import View
from pipeline.flow import Flow, is_ours
from pipeline.tables import Table
from specs.model.endpoint import Endpoint

PROTOS = {"tcp": 6, "udp": 17, "icmp": 1}


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One table that a packet passed: its name, the flow's text, the spec object that the flow is for, and its actions."""

    table: str
    matched: str
    origin: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one host does with a packet: the OpenFlow ports by which it leaves, and the VTEP that it is sent to."""

    steps: tuple[TraceStep, ...]
    outputs: tuple[int, ...]
    tunnel: str | None
    tunnel_id: int | None  # the VNI with which it is sent
    answered: bool  # sent back out of the port by which it came in (ARP, neighbour discovery)


def origins(view: View) -> dict[int, Flow]:
    """Cookies to flows, for everything that the view compiles to."""
    return {flow.cookie: flow for flow in compile_view(view).flows}


def origin_text(cookie: int, flows: Mapping[int, Flow], names: Mapping[str, str]) -> str:
    """The spec object behind a cookie, such as `endpoint/web-1`; `names` maps ids to names. Foreign and stale flows are
    called so."""
    flow = flows.get(cookie)
    if flow is None:
        return "stale" if is_ours(cookie) else "stranger"
    first, colon, rest = flow.origin.name.partition(":")  # the name of a policy begins with its network's id
    return f"{flow.origin.kind}/{names.get(first, first)}{colon}{rest}"


def table_name(table: int) -> str:
    """The name of a table; the number of a table that is not ours."""
    try:
        return Table(table).name
    except ValueError:
        return str(table)


def packet(source: Endpoint, target: Endpoint, proto: str, port: int | None) -> str:
    """A packet between two endpoints as a flow for ofproto/trace (ovs-fields(7) syntax). To another network it goes by the
    gateway's MAC.

    `proto` is icmp, tcp or udp. IPv4 where both have it, else IPv6; where one has no address, a bare Ethernet frame.
    """
    towards = target.mac_address if source.network_id == target.network_id else GATEWAY_MAC
    ethernet = f"in_port={source.ofport},dl_src={source.mac_address},dl_dst={towards}"
    return f"{ethernet}{_layer3(source, target, proto, port)}"


def arriving(vni: int, tunnel: int, vtep: str, source: Endpoint, target: Endpoint, proto: str, port: int | None) -> str:
    """The same packet as it comes out of the tunnel on the target's host; `vtep` is that of the source's."""
    sender = source.mac_address if source.network_id == target.network_id else GATEWAY_MAC
    sent_by = f"tun_ipv6_src={vtep}" if ":" in vtep else f"tun_src={vtep}"
    ethernet = f"in_port={tunnel},tun_id={vni},{sent_by},dl_src={sender},dl_dst={target.mac_address}"
    return f"{ethernet}{_layer3(source, target, proto, port)}"


def _layer3(source: Endpoint, target: Endpoint, proto: str, port: int | None) -> str:
    if source.ipv4_address and target.ipv4_address:
        name, addresses = proto, _addresses("nw", source.ipv4_address, target.ipv4_address)
    elif source.ipv6_address and target.ipv6_address:
        name, addresses = f"{proto}6", _addresses("ipv6", source.ipv6_address, target.ipv6_address)
    else:
        return ""
    last = {"icmp": "icmp_type=8", "icmp6": "icmpv6_type=128"}.get(name, f"{proto}_dst={port or 80}")
    return f",{name},{addresses},nw_ttl=64,{last}"


def _addresses(prefix: str, source: IPv4Address | IPv6Address, target: IPv4Address | IPv6Address) -> str:
    return f"{prefix}_src={source},{prefix}_dst={target}"


_STEP = re.compile(r"^\s*(\d+)\. (.*?)(?:, )?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$")
_MISS = re.compile(r"^\s*(\d+)\. No match\.$")
_BRIDGE = re.compile(r'^\s*bridge\("(.+)"\)$')
_OUTPUT = re.compile(r"-> output port is (\d+)|^\s+output:(\d+)$")
_TUNNEL = re.compile(r"set_field:(\S+)->tun_dst")
_TUNNEL_ID = re.compile(r"set_field:(\S+)->tun_id")
_SKIPPED = "skipping output to input port"
_SUMMARY = "Final flow:"  # and the lines after it, until a packet continues after ct


def parse_trace(text: str, flows: Mapping[int, Flow], names: Mapping[str, str], tunnel: int | None) -> Trace:
    """Parse the output of `ovs-appctl ofproto/trace`; it leaves out what other bridges do with the tunnel's packet."""
    lines = tuple(_first_bridge(text))
    outputs, vtep, vni = _sent(lines, tunnel)
    answered = any(line.strip() == "IN_PORT" for line in lines)
    return Trace(_steps(lines, flows, names), outputs, vtep, vni, answered)


def _first_bridge(text: str) -> Iterator[str]:
    """The lines about the bridge that the packet enters, without summaries."""
    first, elsewhere = "", False
    for line in text.splitlines():
        if bridge := _BRIDGE.match(line):
            first = first or bridge[1]
            elsewhere = bridge[1] != first
            continue
        elsewhere = elsewhere or line.startswith(_SUMMARY)
        if not elsewhere:
            yield line


def _steps(lines: Iterable[str], flows: Mapping[int, Flow], names: Mapping[str, str]) -> tuple[TraceStep, ...]:
    steps: list[TraceStep] = []
    for line in lines:
        if step := _STEP.match(line):
            table, matched, priority, cookie = step.groups()
            origin = origin_text(int(cookie, 16) if cookie else 0, flows, names)
            steps.append(TraceStep(table_name(int(table)), f"{matched or 'any'} (priority {priority})", origin, ()))
        elif miss := _MISS.match(line):
            steps.append(TraceStep(table_name(int(miss[1])), "no match", "pipeline/miss", ()))
        elif steps and line.startswith(" ") and line.strip():
            steps[-1] = replace(steps[-1], actions=(*steps[-1].actions, line.strip()))
    return tuple(steps)


def _sent(lines: tuple[str, ...], tunnel: int | None) -> tuple[tuple[int, ...], str | None, int | None]:
    """The ports by which the packet leaves, and the VTEP and the VNI of the copy that goes into the tunnel."""
    outputs: list[int] = []
    destination: str | None = None
    vtep: str | None = None
    vni: int | None = None
    for line, following in pairwise((*lines, "")):
        if address := _TUNNEL.search(line):
            destination = address[1]
        if number := _TUNNEL_ID.search(line):
            vni = int(number[1], 0)
        output = _OUTPUT.search(line)
        if output is None or _SKIPPED in following:
            continue
        outputs.append(int(output[1] or output[2]))
        if outputs[-1] == tunnel:
            vtep = destination
    return tuple(outputs), vtep, vni if vtep else None


_DUMP = re.compile(
    r"cookie=(?P<cookie>0x[0-9a-f]+|0), duration=(?P<duration>[\d.]+)s, table=(?P<table>\d+), "
    r"n_packets=(?P<packets>\d+), n_bytes=(?P<bytes>\d+), (?P<rest>.*?)\s*actions=(?P<actions>.*)$"
)


def parse_dump(lines: Iterable[str], flows: Mapping[int, Flow], names: Mapping[str, str]) -> list[dict[str, object]]:
    """Rows of `ovs-ofctl dump-flows`, with table names and origins. Durations are in seconds."""
    rows: list[dict[str, object]] = []
    for line in lines:
        columns = _DUMP.search(line)
        if columns is None:
            continue
        cookie = int(columns["cookie"], 16)
        priority = re.search(r"priority=(\d+)", columns["rest"])
        rows.append(
            {
                "table": table_name(int(columns["table"])),
                "table_id": int(columns["table"]),
                "priority": int(priority[1]) if priority else 32768,
                "match": re.sub(r"(?:[a-z_]+_age=\d+, )*(?:priority=\d+)?,?", "", columns["rest"], count=1).strip(", "),
                "actions": columns["actions"],
                "origin": origin_text(cookie, flows, names),
                "cookie": f"{cookie:#x}",
                "packets": int(columns["packets"]),
                "bytes": int(columns["bytes"]),
                "duration_s": float(columns["duration"]),
            }
        )
    return rows
