"""What a host needs so that its networks reach the outside, as a value, and that value as an nftables table. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from intent.gateway import TRANSIT4, TRANSIT6, Gateway, gateway_of
from intent.views import claims, endpoint_mtu
from ovsdb.rows import UPLINK_PORT
from specs.checks import order, served, valid_networks, zones
from specs.model.records import Endpoint, Network
from specs.model.service import Service
from specs.snapshot import Snapshot

TABLE = "warren"
Address = IPv4Address | IPv6Address
Claim = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host and the transit address that it leads to."""

    proto: str
    port: int
    host_ip: Address | None
    transit: Address


@dataclass(frozen=True, slots=True)
class Outside:
    """`versions` of IP that go out, `routes` to networks, `mtu` (bytes) of the smallest network, published ports."""

    versions: tuple[int, ...] = ()
    routes: tuple[str, ...] = ()
    mtu: int = 0
    published: tuple[Published, ...] = ()

    @property
    def active(self) -> bool:
        """Whether anything is needed at all."""
        return bool(self.versions)


def outside(snapshot: Snapshot, host: str, local_endpoints: Iterable[Endpoint]) -> Outside:
    """What the networks with an active endpoint on this host need. `local_endpoints` are all endpoints of this host: searching those of all
    hosts would make every change cost what exists."""
    valid, _ = valid_networks(snapshot)
    active = sorted((e for e in local_endpoints if e.active), key=lambda e: order(snapshot, "endpoint", e.id))
    used = {e.network_id: valid[e.network_id] for e in active if e.network_id in valid and valid[e.network_id].mode != "flat"}
    zone = zones(snapshot, valid)
    gateways = {i: gateway for i, n in used.items() if (gateway := gateway_of(n, zone[i], None, 0)) is not None}
    versions, routes = _reach(used.values())
    hosts = list(snapshot.hosts.values())
    claimed: set[Claim] = set()
    published = [*_published_by_endpoints(active, used, gateways, claimed)]
    published += _published_by_services(served(snapshot, valid)[0], host, gateways, claimed)
    return Outside(
        versions=tuple(sorted(versions)),
        routes=tuple(sorted(routes)),
        mtu=min((endpoint_mtu(hosts, network) for network in used.values()), default=0),
        published=tuple(sorted(published, key=repr)),
    )


def _reach(networks: Iterable[Network]) -> tuple[set[int], set[str]]:
    """The versions of IP that go out, and the routes that lead back."""
    versions, routes = set[int](), set[str]()
    for network in networks:
        for version, network_range, transit in ((4, network.ip_range, TRANSIT4), (6, network.ipv6_range, TRANSIT6)):
            if network_range is not None:
                versions.add(version)
                routes.add(str(transit if network.mode == "nat" else network_range))
    return versions, routes


def _published_by_endpoints(
    endpoints: Iterable[Endpoint], used: Mapping[str, Network], gateways: Mapping[str, Gateway], claimed: set[Claim]
) -> Iterator[Published]:
    """Ports that endpoints publish, the endpoint created first before others; adds what they claim to `claimed`."""
    for endpoint in endpoints:
        ports = {claim for claim in claims(endpoint) if claim[0].startswith("published")}
        if endpoint.network_id not in used or claimed & ports:
            continue
        claimed |= ports
        if (gateway := gateways.get(endpoint.network_id)) is not None:
            yield from _published_by(endpoint, gateway)


def _published_by(endpoint: Endpoint, gateway: Gateway) -> Iterator[Published]:
    for publish in endpoint.publish:
        for address, transit in ((endpoint.ipv4_address, gateway.transit4), (endpoint.ipv6_address, gateway.transit6)):
            if address is None or transit is None:
                continue
            if publish.host_ip is None or publish.host_ip.version == transit.version:
                for port, _ in publish.pairs:
                    yield Published(publish.proto, port, publish.host_ip, transit)


def _published_by_services(
    services: Mapping[str, Iterable[Service]], host: str, gateways: Mapping[str, Gateway], claimed: set[Claim]
) -> Iterator[Published]:
    """Ports of services of the networks that are used here; a port that an endpoint publishes is the endpoint's."""
    for network_id, of_network in services.items():
        if (gateway := gateways.get(network_id)) is None:
            continue
        for service in of_network:
            if (f"published on {host}", f"{service.proto} port {service.host_port}") not in claimed:
                for transit in (gateway.transit4, gateway.transit6):
                    if transit is not None:
                        yield Published(service.proto, service.host_port, None, transit)


def ruleset(wanted: Outside, comment: str) -> str:
    """nft(8) commands that replace the table in one transaction. The host's own tables and policies are left alone."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines.append('    comment "' + comment.replace('"', "'") + '"')
    leads = [f"        {_destination_nat(published)}" for published in wanted.published]
    for hook, priority in (("prerouting", "dstnat"), ("output", "-100")):
        lines += [f"    chain {hook} {{", f"        type nat hook {hook} priority {priority}; policy accept;", *leads, "    }"]
    lines += ["    chain postrouting {", "        type nat hook postrouting priority srcnat; policy accept;"]
    for family, transit in (("ip", TRANSIT4), ("ip6", TRANSIT6)):
        lines.append(f'        {family} saddr {transit} oifname != "{UPLINK_PORT}" masquerade')
    return "\n".join([*lines, "    }", "}", ""])


def _destination_nat(published: Published) -> str:
    version = published.transit.version
    family, to = (
        ("ip", f"{published.transit}:{published.port}") if version == 4 else ("ip6", f"[{published.transit}]:{published.port}")
    )
    local = (
        f"meta nfproto ipv{version} fib daddr type local" if published.host_ip is None else f"{family} daddr {published.host_ip}"
    )
    return f"{local} {published.proto} dport {published.port} dnat {family} to {to}"


def kept_switches(table: str) -> dict[str, str]:
    """The values that the forwarding switches had before Warren, by version of IP, from the comment of our table as nft prints it.
    (nft 1.0.6 leaves the comment out of its JSON.)"""
    comment = re.search(r'^\s*comment "(.*)"$', table, re.MULTILINE)
    return json.loads(comment[1].replace("'", '"')) if comment else {}  # type: ignore[no-any-return]
