"""The content of a picture as values: hosts, networks, endpoints, the tunnels in use, copies. Pure: from a document as `warren export`
prints it and, where an agent was asked, from what the hosts report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import networkx as nx

from specs.model.mirror import COLLECTORS


@dataclass(frozen=True, slots=True)
class HostNode:
    """A host; `notes` lists its problems."""

    name: str
    vtep: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkNode:
    """A network; `ranges` are its subnets, `gateway` its way out where it has one (mode nat or routed)."""

    name: str
    vni: int | None
    ranges: tuple[str, ...]
    mode: str
    gateway: str | None


@dataclass(frozen=True, slots=True)
class EndpointNode:
    """An endpoint; `reason` says why it is closed. `published` are PROTO HOSTPORT>PORT. `seat` says what it is behind when it has no
    cable of its own: an interface of the host (`physical`: its MAC means nothing), or another endpoint."""

    id: str
    name: str
    network: str
    host: str
    ipv4: str | None
    ipv6: str | None
    mac: str | None
    ofport: int | None
    acls: tuple[str, ...]
    published: tuple[str, ...]
    labels: tuple[str, ...]
    state: str = ""
    reason: str = ""
    seat: str = ""
    physical: bool = False

    @property
    def key(self) -> str:
        """The key in pictures: NETWORK/NAME."""
        return f"{self.network}/{self.name}"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two hosts that share networks. `broken` is the worse state that either reports for the tunnel: down, mtu (large packets are lost), or empty."""

    one: str
    other: str
    networks: tuple[str, ...]
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """A mirror session: from endpoints, by their keys, to an endpoint's key, HOST:INTERFACE, or how and where a collector is."""

    name: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole topology, each kind sorted by name."""

    hosts: tuple[HostNode, ...]
    networks: tuple[NetworkNode, ...]
    endpoints: tuple[EndpointNode, ...]
    tunnels: tuple[Tunnel, ...]
    copies: tuple[Copies, ...] = ()

    def at(self, host: str) -> tuple[EndpointNode, ...]:
        """The endpoints of one host."""
        return tuple(e for e in self.endpoints if e.host == host)


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
    endpoints = tuple(sorted((_endpoint(e, called, state_of, names_of) for e in items), key=lambda e: (e.network, e.name, e.id)))
    vteps = {str(h["name"]): str(h.get("vtep", "?")) for h in document.get("hosts") or ()}
    names = vteps | {e.host: "?" for e in endpoints if e.host not in vteps}
    hosts = tuple(
        HostNode(name, vtep, _notes(report_of.get(name))) for name, vtep in sorted(names.items(), key=lambda h: _natural(h[0]))
    )
    declared = {network.name for network in networks}
    extra = tuple(NetworkNode(n, None, (), "flat", None) for n in sorted({e.network for e in endpoints} - declared))
    copies = tuple(_copies(m, called, endpoints) for m in document.get("mirrors") or () if m.get("active", True))
    return Topology(
        hosts, networks + extra, endpoints, _tunnels(endpoints, report_of), tuple(sorted(copies, key=lambda c: c.name))
    )


def restricted(whole: Topology, network: str | None = None, host: str | None = None) -> Topology:
    """Only one network, or one host and the networks on it, or one network on one host. Raises `ValueError` for one that does not exist."""
    part = whole
    if host is not None:
        _must_exist("host", host, [h.name for h in whole.hosts])
        part = _of_host(part, host)
    if network is not None:
        _must_exist("network", network, [n.name for n in whole.networks])
        part = _of_network(part, network)
    hosts = whole.hosts
    if part is not whole:
        used = (
            {name for tunnel in part.tunnels for name in (tunnel.one, tunnel.other)} | {e.host for e in part.endpoints} | {host}
        )
        hosts = tuple(h for h in hosts if h.name in used)
    return replace(part, hosts=hosts, copies=_copies_from(part.endpoints, whole.copies))


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


def _of_network(whole: Topology, network: str) -> Topology:
    return replace(
        whole,
        endpoints=tuple(e for e in whole.endpoints if e.network == network),
        tunnels=tuple(replace(t, networks=(network,)) for t in whole.tunnels if network in t.networks),
        networks=tuple(n for n in whole.networks if n.name == network),
    )


def _copies_from(endpoints: Iterable[EndpointNode], copies: Iterable[Copies]) -> tuple[Copies, ...]:
    """The sessions that copy from these endpoints, with these as their only sources."""
    keys = {endpoint.key for endpoint in endpoints}
    fewer = (replace(c, sources=tuple(source for source in c.sources if source in keys)) for c in copies)
    return tuple(c for c in fewer if c.sources)


def graph(whole: Topology) -> nx.Graph:
    """Nodes `host NAME`, `network NAME`, `endpoint NETWORK/NAME`; edges: an endpoint and its host (kind port), two hosts that share
    networks (kind tunnel), a source and its session's target (kind mirror)."""
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
    return result


def colours(whole: Topology) -> dict[str, str]:
    """A light colour for each network: dark text is read on all of them."""
    names = [network.name for network in whole.networks]
    first = ("#f6b44b", "#6aa9e9", "#8fd19e", "#d99ad9", "#f08a7a", "#9ad9d4", "#c9c26a", "#b3a3f0")
    more = (f"{(i * 0.618034) % 1:.3f} {0.26 + 0.14 * (i % 2):.2f} {0.97 - 0.06 * (i % 3):.2f}" for i in range(len(names)))
    return {name: first[i] if i < len(first) else shade for i, (name, shade) in enumerate(zip(names, more, strict=True))}


def _networks(items: Iterable[Mapping[str, Any]]) -> tuple[tuple[NetworkNode, ...], dict[str, str]]:
    networks: list[NetworkNode] = []
    called: dict[str, str] = {}
    for n in items:
        name = str(n["name"])
        called |= {str(n.get("id") or name): name, name: name}
        ranges = tuple(str(n[field]) for field in ("ip_range", "ipv6_range") if n.get(field))
        mode = str(n.get("mode", "flat"))
        gateway = str(n["gateway"]).split("/")[0] if n.get("gateway") and mode != "flat" else None
        networks.append(NetworkNode(name, n.get("vxlan_vni"), ranges, mode, gateway))
    return tuple(sorted(networks, key=lambda n: _natural(n.name))), called


def _endpoint(
    e: Mapping[str, Any], called: Mapping[str, str], states: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> EndpointNode:
    network = str(e.get("network") or e["network_id"])
    endpoint_id = str(e.get("id") or e.get("name"))
    state = states.get(endpoint_id, {})
    acls = e.get("acls") or ()
    labels = tuple(f"{key}={value}" if value else str(key) for key, value in sorted((e.get("labels") or {}).items()))
    return EndpointNode(
        endpoint_id, str(e.get("name") or endpoint_id), called.get(network, network), str(e["host"]),
        e.get("ipv4_address"), e.get("ipv6_address"), None if e.get("port") else e.get("mac_address"), None if e.get("parent") else e.get("ofport"),
        tuple(map(str, [acls] if isinstance(acls, (str, int)) else acls)), tuple(map(_published, e.get("publish") or ())), labels,
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


def _tunnels(endpoints: Iterable[EndpointNode], reports: Mapping[str, Mapping[str, Any]]) -> tuple[Tunnel, ...]:
    members: dict[str, set[str]] = defaultdict(set)
    for e in endpoints:
        members[e.network].add(e.host)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for network, hosts in sorted(members.items()):
        for one, other in combinations(sorted(hosts, key=_natural), 2):
            shared[one, other].append(network)
    pairs = sorted(shared.items(), key=lambda pair: (_natural(pair[0][0]), _natural(pair[0][1])))
    return tuple(Tunnel(one, other, tuple(networks), _broken(reports, one, other)) for (one, other), networks in pairs)


def _broken(reports: Mapping[str, Mapping[str, Any]], one: str, other: str) -> str:
    """The worse of the two states that the hosts report for the tunnel between them."""
    reported = {
        str(((reports.get(host) or {}).get("tunnels") or {}).get("broken", {}).get(peer, ""))
        for host, peer in ((one, other), (other, one))
    }
    return next((state for state in ("down", "mtu") if state in reported), "")


def _copies(mirror: Mapping[str, Any], called: Mapping[str, str], endpoints: Iterable[EndpointNode]) -> Copies:
    def meant(source: Mapping[str, Any], e: EndpointNode) -> bool:
        if called.get(source["network"], source["network"]) != e.network:
            return False
        if source.get("endpoint") is not None:
            return source["endpoint"] in (e.name, e.id)
        label = source.get("label")
        return label is None or label in e.labels or label in {text.partition("=")[0] for text in e.labels}

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


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts h2 before h10."""
    parts, digits = [], ""
    for letter in [*name, ""]:
        if letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, letter))
    return tuple(parts)
