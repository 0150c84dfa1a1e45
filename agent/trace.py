"""Follows a packet between two endpoints through the switches of both hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from controller.compiler.explain import PROTOS, arriving, packet
from controller.compiler.packet_trace import COPY, LARGER
from pipeline.protocols import IpAddress
from pipeline.tables import TUNNEL_OFPORT, Table
from specs.model.allowed import overlap
from specs.model.endpoint import Endpoint
from warren.errors import Invalid

TABLE_COLUMN = max(len(table.name) for table in Table)
DELIVERED, DROPPED, ELSEWHERE = "delivered", "dropped", "sent elsewhere"
BRANCHES = {COPY: "a mirror's copy", LARGER: "only if it is larger"}

HostTrace = Callable[[str, str, str], dict[str, Any]]  # arguments: host, flow, the port on which the packet arrives
Hop = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TracedEnds:
    """What a traced packet carries instead of the endpoints' own values: the sender's address and MAC, and the receiver's address."""

    src_address: IpAddress | None = None
    src_mac: str | None = None
    dst_address: IpAddress | None = None

    def sender(self, source: Endpoint) -> Endpoint:
        """The endpoint that the packet says it is from."""
        sender = _with_address(source, self.src_address) if self.src_address is not None else source
        return sender.model_copy(update={"mac_address": self.src_mac}) if self.src_mac is not None else sender

    def receiver(self, target: Endpoint) -> Endpoint:
        """The endpoint that the packet is for. Raises `Invalid` for an address that it does not have."""
        if self.dst_address is None or self.dst_address in (target.ipv4_address, target.ipv6_address):
            return target if self.dst_address is None else _with_address(target, self.dst_address)
        entry = next((e for e in target.allowed if overlap(e.address, ip_network(self.dst_address))), None)
        if entry is None:
            raise Invalid("dst_address", str(self.dst_address), "an address that dst has or is allowed")
        return _with_address(target, self.dst_address).model_copy(update={"mac_address": entry.mac or target.mac_address})


OWN_ENDS = TracedEnds()


def _with_address(endpoint: Endpoint, address: IpAddress) -> Endpoint:
    fields = {"ipv4_address": None, "ipv6_address": None} | {f"ipv{address.version}_address": address}
    return endpoint.model_copy(update=fields)


def follow(
    source: Endpoint,
    target: Endpoint,
    proto: str,
    port: int | None,
    vteps: Mapping[str, str],
    trace: HostTrace,
    ends: TracedEnds = OWN_ENDS,
) -> dict[str, Any]:
    """Return the traces on the source's host and, if the packet takes the tunnel there, on the target's host; and the verdict.
    `vteps` are those of the two hosts, by name."""
    if proto not in PROTOS:
        raise Invalid("proto", proto, f"one of {', '.join(PROTOS)}")
    if port is not None and not 0 < port < 65_536:
        raise Invalid("port", port, "1 to 65535")
    if source.id == target.id:
        raise Invalid("dst", target.name or target.id, "another endpoint than src")
    sender, receiver = ends.sender(source), ends.receiver(target)
    if not _one_version(sender, receiver) and ends != OWN_ENDS:
        raise Invalid("src_address", str(ends.src_address or ends.dst_address), "an address of the version of IP that dst has")
    hops = [_completed(trace(source.host, packet(sender, receiver, proto, port), source.id))]
    tunnel = next((each for each in hops[0]["tunnels"] if each["vtep"] == vteps[target.host]), None)
    if tunnel is not None:
        flow = arriving(tunnel["vni"], TUNNEL_OFPORT, (vteps[source.host], vteps[target.host]), sender, receiver, proto, port)
        enters = f"tunnel:{tunnel['profile']}" if tunnel.get("profile") else "tunnel"
        hops.append(_completed(trace(target.host, flow, enters)))
    verdict, reason = _verdict(target, hops[-1], vteps[target.host])
    if verdict == DROPPED and any(end["table"] == Table.SPOOF_GUARD.name and not end["branch"] for end in hops[-1]["ends"]):
        reason = f"in {Table.SPOOF_GUARD.name} on {source.host}: {_foreign(source, sender)}" if sender != source else reason
    return {
        "src": source.name or source.id,
        "dst": target.name or target.id,
        "proto": proto,
        "verdict": verdict,
        "reason": reason,
        "hosts": hops,
        "text": _text(source, target, proto, port, hops, f"{verdict} {reason}".rstrip()),
    }


def _one_version(sender: Endpoint, receiver: Endpoint) -> bool:
    """Whether both ends have an address of one version of IP."""
    both = ((sender.ipv4_address, receiver.ipv4_address), (sender.ipv6_address, receiver.ipv6_address))
    return any(None not in pair for pair in both)


def _foreign(source: Endpoint, sender: Endpoint) -> str:
    """What of a sender is not the endpoint's own, and not allowed to it."""
    name, mac, address = source.name or source.id, sender.mac_address, sender.ipv4_address or sender.ipv6_address
    if mac not in source.macs:
        return f"source MAC {mac} does not belong to endpoint {name}"
    if address is None or any(overlap(prefix, ip_network(address)) for prefix in source.prefixes):
        return f"source {address or 'without an address'} does not belong to endpoint {name} with MAC {mac}"
    return f"source {address} does not belong to endpoint {name}"


def _completed(hop: Hop) -> dict[str, Any]:
    """A host's answer with what an agent of an earlier version does not send."""
    tunnels = [{"vtep": hop["vtep"], "vni": hop["vni"]}] if hop.get("to_tunnel") else []
    steps = [{"branch": "", **step} for step in hop["steps"]]
    return {"tunnels": tunnels, "ends": [], **hop, "steps": steps}


def _verdict(target: Endpoint, hop: Hop, vtep: str) -> tuple[str, str]:
    """Whether the packet arrives, judged by the host that it came to last, and why not. Only its own branches count, no copies."""
    if target.id in hop["delivered_to"]:
        return DELIVERED, ""
    branches = [end for end in hop["ends"] if not end["branch"]]
    dropped = [end for end in branches if end["kind"] == "drop" or end["problem"]]
    towards = [
        end for end in dropped if target.id == end["endpoint"] or vtep == end["vtep"]
    ]  # of the copies of a flood, that for the target
    if lost := (towards or dropped)[-1:]:
        why = f" ({lost[0]['problem']})" if lost[0]["problem"] else ""
        return DROPPED, f"in {lost[0]['table']} on {hop['host']}, by the flow of {lost[0]['origin']}{why}"
    return (ELSEWHERE, f"from {hop['host']}: {', '.join(map(_way, branches))}") if branches else (DROPPED, f"on {hop['host']}")


def _way(end: Mapping[str, Any]) -> str:
    """Where a branch leaves the switch."""
    if end["kind"] != "output":
        return {"answered": "answered by the switch", "controller": "to the controller"}.get(end["kind"], end["kind"])
    if end["vtep"]:
        return f"tunnel to {end['vtep']}"
    return f"port of endpoint {end['endpoint_name']}" if end["endpoint"] else f"port {end['port']}"


def _text(source: Endpoint, target: Endpoint, proto: str, port: int | None, hops: list[dict[str, Any]], conclusion: str) -> str:
    what = f"{proto} {port}" if port else proto
    lines = [f"{what}: {_display_name(source)} -> {_display_name(target)}"]
    for hop in hops:
        lines += ["", f"on {hop['host']}: {hop['packet']}"]
        matched = min(max((len(step["matched"]) for step in hop["steps"]), default=0), 90)
        for step in hop["steps"]:
            branch = f" ({BRANCHES[step['branch']]})" if step["branch"] else ""
            lines.append(f"  {step['table']:<{TABLE_COLUMN}} {step['matched']:<{matched}}  {step['origin']}{branch}")
            lines += [f"  {'':<{TABLE_COLUMN}}     {action}" for action in step["actions"]]
        lines += list(
            dict.fromkeys(_leaving(end, target) for end in hop["ends"] if end["kind"] == "output" and not end["problem"])
        )
    return "\n".join([*lines, "", conclusion])


def _leaving(end: Mapping[str, Any], target: Endpoint) -> str:
    way = "port of the endpoint" if end["endpoint"] == target.id else _way(end)
    return f"  -> {way}" + (f" ({BRANCHES[end['branch']]})" if end["branch"] else "")


def _display_name(endpoint: Endpoint) -> str:
    address = endpoint.ipv4_address or endpoint.ipv6_address or endpoint.mac_address
    return f"{endpoint.name or endpoint.id} ({address} on {endpoint.host})"
