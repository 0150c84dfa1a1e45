"""What a host needs so that its networks reach the outside, as a value, and that value as an nftables table. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from intent.gateway import TRANSIT4, TRANSIT6, gateway_of
from intent.views import claims, endpoint_mtu
from ovsdb.rows import UPLINK_PORT
from specs.checks import order, served, valid_networks, zones
from specs.model.records import Endpoint
from specs.snapshot import Snapshot

TABLE = "warren"
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host and the transit address that it leads to."""

    proto: str
    port: int
    host_ip: Address | None
    transit: Address


@dataclass(frozen=True, slots=True)
class Outside:
    """`versions` of IP that go out, `routes` to networks, `mtu` (bytes) of the smallest, published ports."""

    versions: tuple[int, ...] = ()
    routes: tuple[str, ...] = ()
    mtu: int = 0
    published: tuple[Published, ...] = ()

    @property
    def active(self) -> bool:
        """Whether anything is needed at all."""
        return bool(self.versions)


def outside(state: Snapshot, host: str, mine: Iterable[Endpoint]) -> Outside:
    """What the networks with an active endpoint on this host need. `mine` are all its endpoints: looking for them among those of all hosts
    would cost every change what exists."""
    networks, _ = valid_networks(state)
    zone = zones(state, networks)
    mine = [e for e in mine if e.active]
    used = {e.network_id for e in mine if e.network_id in networks and networks[e.network_id].mode != "flat"}
    routes: set[str] = set()
    versions: set[int] = set()
    for network in (networks[network_id] for network_id in used):
        for version, network_range, pool in ((4, network.ip_range, TRANSIT4), (6, network.ipv6_range, TRANSIT6)):
            if network_range is not None:
                versions.add(version)
                routes.add(str(pool if network.mode == "nat" else network_range))
    hosts = list(state.hosts.values())
    mtu = min((endpoint_mtu(hosts, networks[network_id]) for network_id in used), default=0)
    published: list[Published] = []
    taken: set[tuple[str, str]] = set()
    for endpoint in sorted(mine, key=lambda e: order(state, "endpoint", e.id)):
        wanted = [claim for claim in claims(endpoint) if claim[0].startswith("published")]
        if endpoint.network_id not in used or taken & set(wanted):
            continue
        taken |= set(wanted)
        gateway = gateway_of(networks[endpoint.network_id], zone[endpoint.network_id], None, 0)
        if gateway is None:
            continue
        for way in endpoint.publish:
            for address, transit in ((endpoint.ipv4_address, gateway.transit4), (endpoint.ipv6_address, gateway.transit6)):
                fits = way.host_ip is None or (transit is not None and way.host_ip.version == transit.version)
                if address is not None and transit is not None and fits:
                    published += [Published(way.proto, port, way.host_ip, transit) for port, _ in way.pairs]
    for network_id, services in served(state, networks)[0].items():
        gateway = gateway_of(networks[network_id], zone[network_id], None, 0)
        if network_id not in used or gateway is None:
            continue
        for service in services:
            if (f"published on {host}", f"{service.proto} port {service.host_port}") not in taken:
                transits = (t for t in (gateway.transit4, gateway.transit6) if t is not None)
                published += [Published(service.proto, service.host_port, None, transit) for transit in transits]
    return Outside(tuple(sorted(versions)), tuple(sorted(routes)), mtu, tuple(sorted(published, key=repr)))


def ruleset(wanted: Outside, comment: str) -> str:
    """nft(8) commands that replace the table in one transaction. The host's own tables and policies are left alone."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines.append('    comment "' + comment.replace('"', "'") + '"')
    ways = [f"        {_lead(way)}" for way in wanted.published]
    for hook, priority in (("prerouting", "dstnat"), ("output", "-100")):
        lines += [f"    chain {hook} {{", f"        type nat hook {hook} priority {priority}; policy accept;", *ways, "    }"]
    lines += ["    chain postrouting {", "        type nat hook postrouting priority srcnat; policy accept;"]
    for family, transit in (("ip", TRANSIT4), ("ip6", TRANSIT6)):
        lines.append(f'        {family} saddr {transit} oifname != "{UPLINK_PORT}" masquerade')
    return "\n".join([*lines, "    }", "}", ""])


def _lead(way: Published) -> str:
    family = "ip" if way.transit.version == 4 else "ip6"
    to = f"{way.transit}:{way.port}" if way.transit.version == 4 else f"[{way.transit}]:{way.port}"
    here = (
        f"{family} daddr {way.host_ip}"
        if way.host_ip is not None
        else f"meta nfproto ipv{way.transit.version} fib daddr type local"
    )
    return f"{here} {way.proto} dport {way.port} dnat {family} to {to}"
