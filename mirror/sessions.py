"""What one host does for the mirror sessions: which of its endpoints it copies, and where the copies go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from acl.language import Rule, Who
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.mirror import Mirror, Target
from specs.model.network import RELATED_BIT, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSession:
    """A session on one host. Copies leave by `port`, or for `vtep` with `vni`. Where the target is on this host (`arrive`), copies
    that other hosts send with `vni` leave by `port`, too. `senders` are the sources as (VNI, MAC), with direction `both` only: a
    packet of theirs is copied when they send it, and not again when another source receives it. `copiers` are the VTEPs of the hosts
    that send copies here."""

    name: str
    number: int
    vni: int
    rules: tuple[Rule, ...]
    port: int | None
    vtep: str | None
    arrive: bool
    vlan: int | None
    snap: int | None
    senders: tuple[tuple[int, str], ...]
    copiers: tuple[str, ...] = ()


# for the port of an endpoint: the sessions that copy what it sends, and those that copy what it receives, as number << 1 | direction
Marks = tuple[tuple[int, ...], tuple[int, ...]]
IN, OUT = 0, 1


def collector_port(mirror: Mirror) -> str:
    """The name of the tunnel port to the collector of a session, at most 15 characters."""
    return f"wm{mirror.number:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What one host knows when it derives its sessions. `by_reference` are the valid networks as from `specs.checks.called`, `of_vni` their ids by VNI. `local` are the ids of its endpoints, `ports` and `interfaces` the OpenFlow
    ports of endpoints (by id) and of other interfaces (by name). `members` returns the endpoints that a source selects in a
    network (by id), `vtep` the address by which this host reaches another (None: it does not). `followed` are the networks whose endpoints it knows
    (None: all); a mirror that names others does not concern it."""

    by_reference: Mapping[str, Network]
    of_vni: Mapping[int, str]
    hosts: Mapping[str, Host]
    host: str
    local: Container[str]
    ports: Mapping[str, int]
    interfaces: Mapping[str, int]
    members: Callable[[str, Who], Iterable[Endpoint]]
    vtep: Callable[[Host], str | None]
    followed: Container[str] | None = None

    def knows(self, mirror: Mirror) -> bool:
        """Whether the endpoints of all networks that a mirror names are known."""
        references = (*(source.network for source in mirror.sources), str(mirror.to.network))
        named = (self.by_reference[reference].id for reference in references if reference in self.by_reference)
        return self.followed is None or all(network_id in self.followed for network_id in named)


def sessions(
    mirrors: Iterable[Mirror], surroundings: Surroundings
) -> tuple[dict[str, MirrorSession], dict[str, Marks], dict[str, str]]:
    """The sessions of this host, by name; the marks of its endpoints, by id; why some sessions do nothing, by name.

    `mirrors` come in the order in which conflicts are resolved: of two with one VNI the first has it."""
    sessions_here: dict[str, MirrorSession] = {}
    marks: dict[str, tuple[set[int], set[int]]] = {}
    problems: dict[str, str] = {}
    for mirror, reason in _without_conflicts(mirrors, surroundings):
        if (reason is None and not mirror.active) or not surroundings.knows(mirror):
            continue
        target, reason = _target(mirror.to, collector_port(mirror), surroundings) if reason is None else (_NOWHERE, reason)
        if reason is not None:
            problems[mirror.name] = reason
            continue
        sources = _sources(mirror, surroundings, but=target.endpoint)
        copied_here = [e for e in sources if e.id in surroundings.local]
        if copied_here or target.arrive:
            sessions_here[mirror.name] = _session(mirror, target, sources, surroundings)
        for endpoint in copied_here:
            sends, receives = marks.setdefault(endpoint.id, (set(), set()))
            if mirror.direction != "out":
                sends.add(mirror.number << 1 | IN)
            if mirror.direction != "in":
                receives.add(mirror.number << 1 | OUT)
    return sessions_here, {e: (tuple(sorted(sends)), tuple(sorted(receives))) for e, (sends, receives) in marks.items()}, problems


def _without_conflicts(mirrors: Iterable[Mirror], surroundings: Surroundings) -> Iterator[tuple[Mirror, str | None]]:
    """Each mirror, and the reason if its VNI belongs to a network or to a mirror before it."""
    holders: dict[int, str] = {}
    for mirror in mirrors:
        network_id = surroundings.of_vni.get(mirror.vni) or surroundings.of_vni.get(mirror.vni ^ RELATED_BIT)
        if network_id is not None:
            holder = f"network {surroundings.by_reference[network_id].name}"
        else:
            holder = holders.setdefault(mirror.vni, f"mirror {mirror.name}")
        yield mirror, None if holder == f"mirror {mirror.name}" else f"VNI {mirror.vni} belongs to {holder}"


def _sources(mirror: Mirror, surroundings: Surroundings, *, but: str | None) -> list[Endpoint]:
    """The endpoints that a mirror copies, on all hosts; never its target."""
    sources: dict[str, Endpoint] = {}
    for source in mirror.sources:
        network = surroundings.by_reference.get(source.network)
        if network is not None:
            sources.update((e.id, e) for e in surroundings.members(network.id, source.who) if e.id != but)
    return list(sources.values())


def _session(mirror: Mirror, target: _Target, sources: Iterable[Endpoint], surroundings: Surroundings) -> MirrorSession:
    networks, hosts = surroundings.by_reference, surroundings.hosts
    remote = {e.host for e in sources if e.host != surroundings.host} if target.arrive else set[str]()
    copiers = {vtep for host in remote if (vtep := surroundings.vtep(hosts[host])) is not None}
    senders = sorted((networks[e.network_id].number, e.mac_address) for e in sources) if mirror.direction == "both" else ()
    return MirrorSession(
        name=mirror.name,
        number=mirror.number,
        vni=mirror.vni,
        rules=mirror.rules,
        port=target.port,
        vtep=target.vtep,
        arrive=target.arrive,
        vlan=mirror.vlan,
        snap=mirror.snap,
        senders=tuple(senders),
        copiers=tuple(sorted(copiers)),
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """How copies leave this host, as in `MirrorSession`; `endpoint` is the id of a target that is an endpoint."""

    port: int | None = None
    vtep: str | None = None
    arrive: bool = False
    endpoint: str | None = None


_NOWHERE = _Target()


def _target(to: Target, collector: str, surroundings: Surroundings) -> tuple[_Target, str | None]:
    """How copies leave this host, or why they cannot. `collector` is the name of the port to a collector."""
    if to.collector is not None:
        port = surroundings.interfaces.get(collector)
        return _Target(port), None if port is not None else "the port to its collector is not there"
    endpoint, host, port = None, to.host, None
    if to.endpoint is not None:
        network = surroundings.by_reference.get(str(to.network))
        who = Who(endpoint=to.endpoint)
        candidates = sorted(surroundings.members(network.id, who), key=lambda e: e.id) if network is not None else []
        if not candidates:
            return _NOWHERE, f"endpoint {to.network}/{to.endpoint} does not exist"
        endpoint, host = candidates[0].id, candidates[0].host
        port = surroundings.ports.get(endpoint)
    elif to.host == surroundings.host:
        port = surroundings.interfaces.get(str(to.interface))
    if host == surroundings.host:
        return _Target(port, None, True, endpoint), None if port is not None else "its target is not plugged in"
    if host not in surroundings.hosts:
        return _NOWHERE, f"host {host} does not exist"
    vtep = surroundings.vtep(surroundings.hosts[str(host)])
    return (_Target(None, vtep, False, endpoint), None) if vtep is not None else (_NOWHERE, f"there is no tunnel to host {host}")
