"""The content of a picture as values: hosts, networks, endpoints, the tunnels in use, routers, services, mirrors. Pure: from a document as `warren export`
prints it and, where an agent was asked, from what the hosts report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from ipaddress import ip_network
from itertools import combinations
from typing import Any

import networkx as nx

from specs.ciphers import WIREGUARD
from specs.model.mirror import COLLECTORS
from specs.model.names import DEFAULT, names_of
from tools.graph.nodes import (
    Copies,
    EndpointNode,
    HostNode,
    NetworkNode,
    RouterNode,
    ServiceNode,
    Topology,
    Tunnel,
    natural,
)


def topology(
    document: Mapping[str, Any],
    states: Iterable[Mapping[str, Any]] = (),
    reports: Iterable[Mapping[str, Any]] = (),
) -> Topology:
    """From a document. `states` are endpoints as the agent lists them (`id`, `state`, `reason`), `reports` hosts as in /status.
    Raises `KeyError` and `TypeError` if the document is malformed."""
    networks, called = _networks(document.get("networks") or ())
    state_of = {str(s["id"]): s for s in states}
    report_of = {str(r["name"]): r for r in reports}
    items = list(document.get("endpoints") or ())
    names_of = {str(e.get("id")): str(e.get("name") or e.get("id")) for e in items}
    endpoints = tuple(
        sorted(
            (_endpoint(e, called, state_of, names_of) for e in items), key=lambda e: (natural(e.network), natural(e.name), e.id)
        )
    )
    hosts = _hosts(document.get("hosts") or (), endpoints, report_of)
    declared = {network.name for network in networks}
    extra = tuple(NetworkNode(n, None, (), "flat", None) for n in sorted({e.network for e in endpoints} - declared))
    copies = tuple(_copies(m, called, endpoints) for m in document.get("mirrors") or () if m.get("active", True))
    return Topology(
        hosts, tuple(sorted(networks + extra, key=lambda n: natural(n.name))), endpoints, _tunnels(endpoints, report_of, {h.name: h.site for h in hosts}),
        tuple(sorted(copies, key=lambda c: natural(c.name))), _routers(document.get("routers") or (), called),
        _services(document.get("services") or (), called, endpoints),
    )  # fmt: skip


def restricted(whole: Topology, network: str | None = None, host: str | None = None, tenant: str | None = None) -> Topology:
    """Only one network, one host and the networks on it, the networks of one tenant, or what all of these have in common. Raises `ValueError` for one
    that does not exist, and for a tenant without networks."""
    part = whole
    if tenant is not None:
        _must_exist("tenant", tenant, sorted({n.tenant for n in whole.networks}))
        part = _of_networks(part, {n.name for n in whole.networks if n.tenant == tenant})
    if host is not None:
        _must_exist("host", host, [h.name for h in whole.hosts])
        part = _of_host(part, host)
    if network is not None:
        _must_exist("network", network, [n.name for n in whole.networks])
        part = _of_networks(part, {network})
    hosts = whole.hosts
    if part is not whole:
        used = (
            {name for tunnel in part.tunnels for name in (tunnel.one, tunnel.other)} | {e.host for e in part.endpoints} | {host}
        )
        hosts = tuple(h for h in hosts if h.name in used)
    shown = {n.name for n in part.networks}
    return replace(
        part,
        hosts=hosts,
        copies=_copies_from(part.endpoints, whole.copies),
        routers=tuple(r for r in whole.routers if shown.intersection(r.networks)),
        services=tuple(s for s in whole.services if s.network in shown),
    )


def _must_exist(kind: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise ValueError(f"{kind} {name!r} does not exist; there are: {', '.join(names) or 'none'}")


def _of_host(whole: Topology, host: str) -> Topology:
    endpoints = tuple(e for e in whole.endpoints if e.host == host)
    used = {e.network for e in endpoints}
    return replace(
        whole,
        endpoints=endpoints,
        tunnels=tuple(t for t in whole.tunnels if host in (t.one, t.other)),
        networks=tuple(n for n in whole.networks if n.name in used),
    )


def _of_networks(whole: Topology, names: Set[str]) -> Topology:
    tunnels = (replace(t, networks=tuple(n for n in t.networks if n in names)) for t in whole.tunnels)
    return replace(
        whole,
        endpoints=tuple(e for e in whole.endpoints if e.network in names),
        tunnels=tuple(t for t in tunnels if t.networks),
        networks=tuple(n for n in whole.networks if n.name in names),
    )


def _copies_from(endpoints: Iterable[EndpointNode], copies: Iterable[Copies]) -> tuple[Copies, ...]:
    """The sessions that copy from these endpoints, with these as their only sources."""
    keys = {endpoint.key for endpoint in endpoints}
    fewer = (replace(c, sources=tuple(source for source in c.sources if source in keys)) for c in copies)
    return tuple(c for c in fewer if c.sources)


def graph(whole: Topology) -> nx.Graph:
    """Nodes `host NAME`, `network NAME`, `endpoint NETWORK/NAME`; edges: an endpoint and its host (kind port), two hosts that share
    networks (kind tunnel), a source and its session's target (kind mirror), a router and its networks (kind route), a service and its
    endpoints (kind member)."""
    result = nx.Graph()
    for host in whole.hosts:
        result.add_node(f"host {host.name}", kind="host", **asdict(host))
    for network in whole.networks:
        result.add_node(f"network {network.name}", kind="network", **asdict(network))
    for endpoint in whole.endpoints:
        result.add_node(f"endpoint {endpoint.key}", kind="endpoint", **asdict(endpoint))
        result.add_edge(f"host {endpoint.host}", f"endpoint {endpoint.key}", kind="port", ofport=endpoint.ofport)
    for tunnel in whole.tunnels:
        result.add_edge(
            f"host {tunnel.one}", f"host {tunnel.other}", kind="tunnel", networks=list(tunnel.networks), broken=tunnel.broken
        )
    keys = {e.key for e in whole.endpoints}
    for session in whole.copies:
        target = f"endpoint {session.target}" if session.target in keys else f"target {session.target}"
        if target not in result:
            result.add_node(target, kind="target", name=session.target)
        for source in session.sources:
            result.add_edge(f"endpoint {source}", target, kind="mirror", session=session.name)
    _add_joined(result, whole)
    return result


def _add_joined(result: nx.Graph, whole: Topology) -> None:
    """Routers and services, which join what is there."""
    for router in whole.routers:
        result.add_node(f"router {router.name}", kind="router", **asdict(router))
        for name in router.networks:
            result.add_edge(f"router {router.name}", f"network {name}", kind="route")
    for service in whole.services:
        result.add_node(f"service {service.name}", kind="service", **asdict(service))
        for member in service.members:
            result.add_edge(f"service {service.name}", f"endpoint {member}", kind="member")


def _networks(items: Iterable[Mapping[str, Any]]) -> tuple[tuple[NetworkNode, ...], dict[str, str]]:
    networks: list[NetworkNode] = []
    called: dict[str, str] = {}
    for n in items:
        name = str(n["name"])
        called |= dict.fromkeys((str(n.get("id") or name), *names_of(name, n.get("tenant"))), name)
        ranges = tuple(str(n[field]) for field in ("ip_range", "ipv6_range") if n.get(field))
        mode = str(n.get("mode", "flat"))
        networks.append(
            NetworkNode(
                name,
                n.get("vxlan_vni"),
                ranges,
                mode,
                _gateway(n, ranges, mode),
                _names(n.get("default_acl")),
                str(n.get("tenant") or DEFAULT),
            )
        )
    return tuple(networks), called


def _hosts(
    items: Iterable[Mapping[str, Any]], endpoints: Iterable[EndpointNode], reports: Mapping[str, Mapping[str, Any]]
) -> tuple[HostNode, ...]:
    declared = {str(h["name"]): h for h in items}

    def node(name: str) -> HostNode:
        host, report = declared.get(name, {}), reports.get(name)
        guarded = sum(map(int, ((report or {}).get("dropped") or {}).values()))
        return HostNode(name, str(host.get("vtep", "?")), _notes(report), str(host.get("site") or ""), guarded)

    nodes = (node(name) for name in declared.keys() | {e.host for e in endpoints})
    return tuple(sorted(nodes, key=lambda h: (natural(h.site), natural(h.name))))


def _gateway(n: Mapping[str, Any], ranges: Sequence[str], mode: str) -> str | None:
    """The gateway's address: as stated, else the first of the range, which Warren takes."""
    stated = n.get("gateway") or n.get("ipv6_gateway")
    if mode == "flat" or not (stated or ranges):
        return None
    return str(stated).split("/")[0] if stated else str(ip_network(ranges[0], strict=False).network_address + 1)


def _names(value: Any) -> tuple[str, ...]:
    """Names of ACLs: a document has one or a list."""
    return tuple(map(str, [value] if isinstance(value, (str, int)) else value or ()))


def _routers(items: Iterable[Mapping[str, Any]], called: Mapping[str, str]) -> tuple[RouterNode, ...]:
    routers = (RouterNode(str(r["name"]), tuple(called.get(str(n), str(n)) for n in r["networks"])) for r in items)
    return tuple(sorted(routers, key=lambda r: natural(r.name)))


def _services(
    items: Iterable[Mapping[str, Any]], called: Mapping[str, str], endpoints: Sequence[EndpointNode]
) -> tuple[ServiceNode, ...]:
    def node(s: Mapping[str, Any]) -> ServiceNode:
        network, label = called.get(str(s["network"]), str(s["network"])), str(s.get("label") or "")
        listed = set(map(str, s.get("endpoints") or ()))
        members = [e for e in endpoints if e.network == network and (e.name in listed or e.id in listed or _has(e, label))]
        return ServiceNode(str(s["name"]), network, _published(s), tuple(e.key for e in members), label)

    return tuple(sorted(map(node, items), key=lambda s: natural(s.name)))


def _has(e: EndpointNode, label: str) -> bool:
    """Whether the endpoint bears the label, KEY or KEY=VALUE."""
    return label in e.labels or label in {text.partition("=")[0] for text in e.labels}


def _endpoint(
    e: Mapping[str, Any], called: Mapping[str, str], states: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> EndpointNode:
    network = str(e.get("network") or e["network_id"])
    endpoint_id = str(e.get("id") or e.get("name"))
    state = states.get(endpoint_id, {})
    labels = tuple(f"{key}={value}" if value else str(key) for key, value in sorted((e.get("labels") or {}).items()))
    return EndpointNode(
        endpoint_id, str(e.get("name") or endpoint_id), called.get(network, network), str(e["host"]),
        e.get("ipv4_address"), e.get("ipv6_address"), None if e.get("port") else e.get("mac_address"), None if e.get("parent") else e.get("ofport"),
        _names(e.get("acls")), tuple(map(_published, e.get("publish") or ())), labels,
        str(state.get("state", "")), str(state.get("reason") or ""), _seat(e, names), bool(e.get("port")),
    )  # fmt: skip


def _seat(e: Mapping[str, Any], names: Mapping[str, str]) -> str:
    tag = f", VLAN {e['vlan']}" if e.get("vlan") else ""
    if e.get("port"):
        return f"{'coprocessor behind' if e.get('coprocessor') else 'interface'} {e['port']}{tag}"
    return f"inside {names.get(str(e['parent']), e['parent'])}{tag}" if e.get("parent") else ""


def _published(p: Mapping[str, Any] | str) -> str:
    if isinstance(p, str):
        return p
    return f"{p.get('proto', 'tcp')} {p.get('host_port', '?')}>{p.get('port', '?')}"


def _tunnels(
    endpoints: Iterable[EndpointNode], reports: Mapping[str, Mapping[str, Any]], sites: Mapping[str, str]
) -> tuple[Tunnel, ...]:
    members: dict[str, set[str]] = defaultdict(set)
    for e in endpoints:
        members[e.network].add(e.host)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for network, hosts in sorted(members.items()):
        for one, other in combinations(sorted(hosts, key=natural), 2):
            shared[one, other].append(network)
    pairs = sorted(shared.items(), key=lambda pair: (natural(pair[0][0]), natural(pair[0][1])))
    return tuple(
        Tunnel(one, other, tuple(networks), _broken(reports, one, other), _cipher(reports, sites, one, other))
        for (one, other), networks in pairs
    )


def _encrypted(reports: Mapping[str, Mapping[str, Any]], one: str, other: str) -> list[Mapping[str, Any]]:
    """What the two hosts report of the encrypted tunnel between them."""
    ends = ((one, other), (other, one))
    return [pair for host, peer in ends for pair in (reports.get(host) or {}).get("encryption") or () if pair.get("peer") == peer]


def _cipher(reports: Mapping[str, Mapping[str, Any]], sites: Mapping[str, str], one: str, other: str) -> str:
    """The cipher of a tunnel, as the hosts report it; without a report, that between sites unless a profile says otherwise."""
    reported = [str(pair["cipher"]) for pair in _encrypted(reports, one, other) if pair.get("cipher")]
    return next(iter(reported), WIREGUARD if sites[one] != sites[other] else "")


def _broken(reports: Mapping[str, Mapping[str, Any]], one: str, other: str) -> str:
    """The worse of the two states that the hosts report for the tunnel between them."""
    reported = {
        str(((reports.get(host) or {}).get("tunnels") or {}).get("broken", {}).get(peer, ""))
        for host, peer in ((one, other), (other, one))
    }
    reported |= {"down" for pair in _encrypted(reports, one, other) if pair.get("up") is False}
    return next((state for state in ("down", "mtu") if state in reported), "")


def _copies(mirror: Mapping[str, Any], called: Mapping[str, str], endpoints: Iterable[EndpointNode]) -> Copies:
    def meant(source: Mapping[str, Any], e: EndpointNode) -> bool:
        if called.get(source["network"], source["network"]) != e.network:
            return False
        if source.get("endpoint") is not None:
            return source["endpoint"] in (e.name, e.id)
        label = source.get("label")
        return label is None or _has(e, label)

    to = mirror["to"]
    if to.get("endpoint"):
        target = f"{called.get(to['network'], to['network'])}/{to['endpoint']}"
    else:
        collector = next((f"{kind} {to[kind]}" for kind in COLLECTORS if to.get(kind)), "")
        target = f"{to['host']}:{to['interface']}" if to.get("interface") else collector
    sources = tuple(e.key for e in endpoints if any(meant(source, e) for source in mirror["sources"]))
    return Copies(str(mirror["name"]), sources, target)


def _notes(report: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The problems of a host, from its report."""
    if report is None:
        return ()
    notes = [f"{who} dead" for who in ("agent", "controller") if report.get(who) == "dead"]
    if report.get("controller") == "alive" and not report.get("connected"):
        notes.append("switch not connected")
    elif report.get("controller") == "alive" and not report.get("current"):
        notes.append("behind")
    problems = len(report.get("problems") or ())
    return (*notes, f"{problems} problem{'s' * (problems > 1)}") if problems else tuple(notes)
