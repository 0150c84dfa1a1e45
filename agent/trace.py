"""Follows a packet between two endpoints through the switches of both hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controller.compiler.explain import PROTOS, arriving, packet
from pipeline.tables import TUNNEL_OFPORT, Table
from specs.model.endpoint import Endpoint
from warren.errors import Invalid

TABLE_COLUMN = max(len(table.name) for table in Table)

HostTrace = Callable[[str, str, str], dict[str, Any]]  # arguments: host, flow, the port on which the packet arrives


def follow(
    source: Endpoint, target: Endpoint, proto: str, port: int | None, vteps: Mapping[str, str], trace: HostTrace
) -> dict[str, Any]:
    """Return the traces on the source's host and, if the packet takes the tunnel there, on the target's host; and the verdict.
    `vteps` are those of the two hosts, by name."""
    if proto not in PROTOS:
        raise Invalid("proto", proto, f"one of {', '.join(PROTOS)}")
    if port is not None and not 0 < port < 65_536:
        raise Invalid("port", port, "1 to 65535")
    if source.id == target.id:
        raise Invalid("dst", target.name or target.id, "another endpoint than src")
    hops = [trace(source.host, packet(source, target, proto, port), source.id)]
    if hops[0]["to_tunnel"] and hops[0]["vtep"] == vteps[target.host]:
        flow = arriving(hops[0]["vni"], TUNNEL_OFPORT, vteps[source.host], source, target, proto, port)
        hops.append(trace(target.host, flow, "tunnel"))
    delivered = target.id in hops[-1]["delivered_to"]
    verdict = "delivered" if delivered else "dropped"
    last = hops[-1]["steps"][-1] if hops[-1]["steps"] else {"table": "?", "origin": "?"}
    reason = "" if delivered else f"in {last['table']} on {hops[-1]['host']}, by the flow of {last['origin']}"
    return {
        "src": source.name or source.id,
        "dst": target.name or target.id,
        "proto": proto,
        "verdict": verdict,
        "reason": reason,
        "hosts": hops,
        "text": _text(source, target, proto, port, hops, verdict, reason),
    }


def _text(
    source: Endpoint, target: Endpoint, proto: str, port: int | None, hops: list[dict[str, Any]], verdict: str, reason: str
) -> str:
    what = f"{proto} {port}" if port else proto
    lines = [f"{what}: {_display_name(source)} -> {_display_name(target)}"]
    for hop in hops:
        lines += ["", f"on {hop['host']}: {hop['packet']}"]
        matched = min(max((len(step["matched"]) for step in hop["steps"]), default=0), 90)
        for step in hop["steps"]:
            lines.append(f"  {step['table']:<{TABLE_COLUMN}} {step['matched']:<{matched}}  {step['origin']}")
            lines += [f"  {'':<{TABLE_COLUMN}}     {action}" for action in step["actions"]]
        if hop["to_tunnel"]:
            lines.append(f"  -> tunnel to {hop['vtep']}")
        elif hop["delivered_to"]:
            lines.append("  -> port of the endpoint")
    lines += ["", f"{verdict} {reason}".rstrip()]
    return "\n".join(lines)


def _display_name(endpoint: Endpoint) -> str:
    address = endpoint.ipv4_address or endpoint.ipv6_address or endpoint.mac_address
    return f"{endpoint.name or endpoint.id} ({address} on {endpoint.host})"
