"""Reads and writes connections as ovs-vswitchd prints them (ovs-dpctl(8), dump-conntrack and flush-conntrack). Pure."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from intent.connections import Connection
from pipeline.protocols import ECHO6_REPLY, ICMP, ICMPV6, IPV6, WITH_PORTS, IpAddress, checksum
from pipeline.tables import LABEL_ORIGIN, LABEL_SOURCE, LABEL_TARGET

_PROTOCOLS = {
    **WITH_PORTS,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "igmp": 2,
    "dccp": 33,
    "gre": 47,
    "udplite": 136,
}  # as they are printed
_ENTRY = re.compile(
    rf"^(?P<proto>{'|'.join(_PROTOCOLS)}|\d+),orig=\((?P<orig>[^)]*)\),reply=\((?P<reply>[^)]*)\)(?P<rest>.*)$", re.MULTILINE
)
_PAIR = re.compile(r"(\w+)=([^,()]+)")
WORD = 0xFFFF_FFFF


def parse(text: str) -> Iterator[Connection]:
    """Yield the connections in the output of dump-conntrack; lines of another form are left out."""
    for entry in _ENTRY.finditer(text):
        proto = _PROTOCOLS.get(entry["proto"]) or int(entry["proto"])
        first, reply, rest = (dict(_PAIR.findall(entry[part])) for part in ("orig", "reply", "rest"))
        label = int(rest.get("labels", "0"), 0)
        yield Connection(
            zone=int(rest.get("zone", "0")),
            proto=int(proto),
            source=ip_address(first["src"]),
            target=ip_address(first["dst"]),
            replier=ip_address(reply["src"]),
            source_port=int(first.get("sport", "0")),
            target_port=int(first.get("dport", "0")),
            replier_port=int(reply.get("sport", "0")),
            icmp=(int(first["type"]), int(first["code"])) if "type" in first else None,
            icmp_id=int(first.get("id", "0")),
            replied_to=ip_address(reply["dst"]),
            mark=int(rest.get("mark", "0"), 0),
            ends=(label >> LABEL_SOURCE & WORD, label >> LABEL_TARGET & WORD),
            origin=label >> LABEL_ORIGIN & WORD,
        )


def tuple_of(connection: Connection) -> str:
    """Return the connection's first packet as flush-conntrack takes it."""
    fields = [f"{_name('src', connection.source)}={connection.source}", f"{_name('dst', connection.target)}={connection.target}"]
    fields.append(f"ct_nw_proto={connection.proto}")
    if connection.icmp is not None and connection.proto in (ICMP, ICMPV6):
        icmp_type, code = connection.icmp
        fields += [f"icmp_type={icmp_type}", f"icmp_code={code}", f"icmp_id={connection.icmp_id}"]
    elif connection.source_port or connection.target_port:
        fields += [f"ct_tp_src={connection.source_port}", f"ct_tp_dst={connection.target_port}"]
    return ",".join(fields)


def batches(ending: Iterable[Connection], staying: Iterable[Connection]) -> Iterator[tuple[str, ...]]:
    """Yield arguments of flush-conntrack that end some connections of a dump and none of the others: one for all connections of a
    protocol to a port of an address, or from an address, where none of these stays; otherwise one for each connection.

    None of them matches a connection of ICMPv6: Open vSwitch 3.1 aborts when it looks such a tuple up. `endings_of_icmpv6` is
    for these."""
    rest = [connection for connection in ending if connection.proto != ICMPV6]
    others = list(staying)
    for key, flush in ((_answered_by, _to_replier), (_begun_by, _from_source)):
        groups: dict[tuple[object, ...], list[Connection]] = defaultdict(list)
        for connection in rest:
            groups[key(connection)].append(connection)
        kept = {key(connection) for connection in others}
        whole = {group for group, members in groups.items() if group not in kept and len(members) > 1}
        for group in whole:
            yield flush(groups[group][0])
        rest = [connection for connection in rest if key(connection) not in whole]
    for connection in rest:
        yield f"zone={connection.zone}", tuple_of(connection)


def _answered_by(connection: Connection) -> tuple[object, ...]:
    return connection.zone, connection.proto, connection.replier, connection.replier_port


def _to_replier(connection: Connection) -> tuple[str, ...]:
    port = f",ct_tp_src={connection.replier_port}" if connection.replier_port else ""
    return f"zone={connection.zone}", "", f"{sender(connection.replier)},ct_nw_proto={connection.proto}{port}"


def _begun_by(connection: Connection) -> tuple[object, ...]:
    return connection.zone, connection.proto, connection.source


def _from_source(connection: Connection) -> tuple[str, ...]:
    return f"zone={connection.zone}", f"{sender(connection.source)},ct_nw_proto={connection.proto}"


def endings_of_icmpv6(ending: Iterable[Connection]) -> str:
    """Return a bundle (ovs-ofctl(8)) that ends those connections that are ICMPv6's. Each is sent a reply of its own with
    ct(force,commit): a packet of the other direction ends the connection, and a reply cannot begin another (ovs-actions(7))."""
    lines = []
    for connection in ending:
        if connection.proto == ICMPV6:
            packet = _reply(connection).hex()
            lines.append(f"packet-out in_port=controller packet={packet} actions=ct(commit,force,zone={connection.zone})\n")
    return "".join(lines)


def _reply(connection: Connection) -> bytes:
    """Return the reply to an echo request, as an Ethernet frame (RFC 4443, 4.2)."""
    source, target = connection.replier.packed, (connection.replied_to or connection.source).packed
    body = struct.pack("!BBHHH", ECHO6_REPLY, 0, 0, connection.icmp_id, 0)
    pseudo_header = source + target + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo_header + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 64) + source + target
    return bytes(12) + struct.pack("!H", IPV6) + header + body


def sender(address: IpAddress) -> str:
    """Return what matches all packets from an address, as flush-conntrack takes it."""
    return f"{_name('src', address)}={address}"


def _name(end: str, address: IpAddress) -> str:
    return f"ct_nw_{end}" if address.version == 4 else f"ct_ipv6_{end}"
