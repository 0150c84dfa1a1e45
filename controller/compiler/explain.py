"""Explains flows: the tables' names and the spec objects behind the cookies of `dump-flows`, and packets as ofproto/trace takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

from controller.compiler.compile import compile_view
from intent.gateway import GATEWAY_MAC
from intent.views import View
from pipeline.flow import Flow, is_ours
from pipeline.tables import Table
from specs.model.endpoint import Endpoint

PROTOS = {"tcp": 6, "udp": 17, "icmp": 1}


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


def arriving(
    vni: int, tunnel: int, vteps: tuple[str, str], source: Endpoint, target: Endpoint, proto: str, port: int | None
) -> str:
    """The same packet as it comes out of the tunnel on the target's host; `vteps` are that of the source's and its own."""
    sender = source.mac_address if source.network_id == target.network_id else GATEWAY_MAC
    prefix = "tun_ipv6" if ":" in vteps[0] else "tun"
    ethernet = f"in_port={tunnel},tun_id={vni},{prefix}_src={vteps[0]},{prefix}_dst={vteps[1]},dl_src={sender},dl_dst={target.mac_address}"
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
