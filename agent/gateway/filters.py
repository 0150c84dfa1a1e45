"""The nftables chains that filter the packets that the host forwards and those to its own addresses. Pure.

Warren switches IP forwarding on for its networks, and the kernel then forwards every packet. These chains keep the host from
becoming a router for others, and let only replies, published ports and routed networks in. They only drop: other tables of
the host may still refuse what these chains accept.

The rules that are in force now decide about every packet in the direction in which its connection began, so a connection ends
when its rule is removed. Replies pass, except from a machine that the container may not reach any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from agent.gateway.host_access import HostAccess
from agent.linux.bridges import Bridges
from agent.linux.nft import FAMILY, by_version, set_of
from ovsdb.rows import UPLINK_PORT
from specs.model.cluster import Transit

REPLY = "ct state established ct direction reply"
ERRORS = "ct state related accept"  # ICMP errors, in both directions


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The fields of a packet that hold the container's address, and the address and the port of the machine at the other end."""

    container: str
    machine: str
    port: str


SENT = Ends(container="saddr", machine="daddr", port="dport")  # by a container
ANSWERED = Ends(container="daddr", machine="saddr", port="sport")  # a machine's reply to a container


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What the host forwards besides the packets of Warren's networks. `guarded` are the versions of IP that it did not
    forward before Warren: their packets pass only where its `bridges` need it."""

    guarded: tuple[int, ...] = ()
    bridges: Bridges = Bridges()


def chains(
    routed: Iterable[str],
    access: HostAccess,
    forwarding: Forwarding,
    transit: Transit,
    tunnel_ports: Iterable[int],
    gateways: Iterable[str] = (),
) -> list[str]:
    """Return the lines of the chains. `routed` are the prefixes of networks that the outside reaches directly, `gateways` the addresses of gateways
    with published ports."""
    return [
        *_chain("from_containers", _allowed(access, SENT)),
        *_chain("to_containers", _allowed(access, ANSWERED)),
        *_chain("to_machines", _machines(access, SENT, "from_containers")),
        *_chain("from_machines", _machines(access, ANSWERED, "to_containers")),
        # before translation, which gives replies to the host's own questions a loopback address (agent/gateway/switches.py)
        *_chain(
            "no_loopback",
            [f'iifname "{UPLINK_PORT}" ip daddr 127.0.0.0/8 counter drop'],
            "type filter hook prerouting priority raw; policy accept;",
        ),
        *_chain("no_tunnels", _no_tunnels(tunnel_ports), "type filter hook prerouting priority filter; policy accept;"),
        *_chain("forward", _forward(routed, gateways, forwarding), "type filter hook forward priority filter; policy accept;"),
        *_chain("input", _input(transit), "type filter hook input priority filter; policy accept;"),
        *_chain("replies", _replies(), "type filter hook output priority filter; policy accept;"),
    ]


def _chain(name: str, rules: Iterable[str], hook: str = "") -> list[str]:
    lines = [hook, *rules] if hook else [*rules]
    return [f"    chain {name} {{", *(f"        {line}" for line in lines), "    }"]


def _no_tunnels(ports: Iterable[int]) -> Iterator[str]:
    """Yield the rule that keeps containers from the tunnels' UDP ports of every host, including this one. ROUTE drops such packets, but not
    later fragments; at this hook fragments are reassembled."""
    yield f'iifname "{UPLINK_PORT}" udp dport {set_of(map(str, sorted(ports)))} counter drop'


def _forward(routed: Iterable[str], gateways: Iterable[str], forwarding: Forwarding) -> Iterator[str]:
    yield ERRORS
    for version, addresses in by_version(gateways):  # an answer of a published port gets that sender after this hook
        yield f'oifname "{UPLINK_PORT}" {FAMILY[version]} saddr {set_of(addresses)} counter drop'
    yield f'oifname "{UPLINK_PORT}" {REPLY} jump from_machines'
    yield f"{REPLY} accept"
    yield f'iifname "{UPLINK_PORT}" jump to_machines'
    yield f'iifname "{UPLINK_PORT}" oifname != "{UPLINK_PORT}" accept'
    # to the containers: a translated destination, which a published port has, or an address of a routed network
    yield f'oifname "{UPLINK_PORT}" ct status dnat accept'
    for version, prefixes in by_version(routed):
        yield f'oifname "{UPLINK_PORT}" {FAMILY[version]} daddr {set_of(prefixes)} accept'
    yield f'oifname "{UPLINK_PORT}" counter drop'
    yield from _between_others(forwarding)


def _between_others(forwarding: Forwarding) -> Iterator[str]:
    """Yield the rules for packets between other interfaces of the host."""
    if not forwarding.guarded:
        return
    yield "ct status expected,dnat accept"  # a helper of the kernel expects them (as FTP's), or somebody else's rule has translated them
    if forwarding.bridges.internal:
        yield f"iifname {set_of(map(_quoted, forwarding.bridges.internal))} accept"
    if forwarding.bridges.external:  # with br_netfilter this hook sees the frames within a bridge, too
        within = (f"{_quoted(name)} . {_quoted(name)}" for name in forwarding.bridges.external)
        yield f"iifname . oifname {set_of(within)} accept"
    yield f"meta nfproto {set_of(f'ipv{version}' for version in forwarding.guarded)} counter drop"


def _input(transit: Transit) -> Iterator[str]:
    """Yield the rules for the host's own addresses: those of its end of the gateways are for its containers alone."""
    yield ERRORS
    yield f"{REPLY} accept"
    yield f'iifname "{UPLINK_PORT}" goto from_containers'
    for version, address in ((4, transit.host4), (6, transit.host6)):
        yield f'iifname != "lo" {FAMILY[version]} daddr {address.ip} counter drop'


def _replies() -> Iterator[str]:
    """Yield the rule for the host's replies in connections that its containers have begun."""
    yield f'oifname "{UPLINK_PORT}" {REPLY} goto to_containers'


def _allowed(access: HostAccess, ends: Ends) -> Iterator[str]:
    """Yield the rules for packets between containers and the cluster's machines, after published ports: refused, unless the
    `host_access` of the container's network allows it."""
    for prefixes, ports in ((access.unlimited, ""), (access.dns, f" meta l4proto {{ tcp, udp }} th {ends.port} 53")):
        for version, containers in by_version(prefixes):
            yield f"{FAMILY[version]} {ends.container} {set_of(containers)}{ports} accept"
    yield "counter reject with icmpx admin-prohibited"


def _machines(access: HostAccess, ends: Ends, limited: str) -> Iterator[str]:
    """Yield the rules that send packets between containers and machines of the cluster (other hosts, etcd) to the chain `limited`.
    All other packets return."""
    for version, hosts in by_version(access.hosts):
        machine = f"{FAMILY[version]} {ends.machine}"
        if access.services:
            services = set_of(f"{proto} . {port}" for proto, port in access.services)
            yield f"{machine} {set_of(hosts)} meta l4proto . th {ends.port} {services} return"
        published = [entry for entry in access.published if ip_address(entry[0]).version == version]
        if published:
            elements = (f"{address} . {proto} . {port}" for address, proto, port in published)
            yield f"{machine} . meta l4proto . th {ends.port} {set_of(elements)} return"
    for version, machines in by_version(access.machines):
        yield f"{FAMILY[version]} {ends.machine} {set_of(machines)} goto {limited}"


def _quoted(name: str) -> str:
    """Return an interface's name for nft, which reads a `*` at the end of a name as a wildcard."""
    return '"' + (f"{name[:-1]}\\*" if name.endswith("*") else name) + '"'
