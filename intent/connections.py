"""Which connections of a host today's specs allow. Pure.

A connection (an entry of connection tracking) may stay if the endpoints at its ends are those that it began between, if the
port that it came in by is still published, and if the policies of both ends would let it begin today. Of endpoints that share an
address, any of them may be at an end of which nothing is known. What its entry does not
tell, such as the DSCP of its first packet, is decided in its favour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Any

from acl.evaluate import PacketFields, Verdict, packet, possible
from acl.policy import PolicyKey, enters
from intent.gateway import gateway_of
from intent.identity import identity
from intent.record_policies import RecordPolicies
from intent.services import service_members
from intent.shares import Shares, shared
from pipeline.protocols import ICMP, ICMPV6, IPV4, IPV6, SCTP, TCP, UDP, IpAddress
from pipeline.tables import MARK_RELATED, ORIGIN_TUNNEL
from specs.checks import ValidNetworks, joined, routers_in_order, served, services_in_order
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.ports import has_unknown_macs
from specs.snapshot import Snapshot

PORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
UNKNOWN = frozenset({"in_port", "ip_dscp", "ip_ecn", "nw_ttl", "ipv6_flabel"})  # fields of the first packet that no entry keeps
MACS = frozenset({"eth_src", "eth_dst"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An entry of connection tracking in the datapath. `source` sent the first packet, to `target` as it came in; `replier`
    sends the replies: `target`, or the address that it was translated to. Ports are 0 for protocols without ports, and for
    ICMP `icmp` is the first packet's type and code. `ends` are the identities of the endpoints at both ends (0: not known)."""

    zone: int
    proto: int
    source: IpAddress
    target: IpAddress
    replier: IpAddress
    source_port: int = 0
    target_port: int = 0
    replier_port: int = 0
    icmp: tuple[int, int] | None = None
    icmp_id: int = 0
    replied_to: IpAddress | None = None  # where replies go: `source`, or the address that it was translated to
    mark: int = 0
    ends: tuple[int, int] = (0, 0)
    origin: int = 0  # ORIGIN_TUNNEL: it came in by a service's port of another host

    def __str__(self) -> str:
        def end(address: IpAddress, port: int) -> str:
            return f"{address} port {port}" if port else str(address)

        name = PORTS.get(self.proto, {ICMP: "icmp", ICMPV6: "icmpv6"}.get(self.proto, f"protocol {self.proto}"))
        return f"{name} {end(self.source, self.source_port)} -> {end(self.target, self.target_port)}"


@dataclass
class Allowed:
    """What the specs of one moment allow. Holds what it has derived, so make a new one for another snapshot. `valid` are its networks."""

    snapshot: Snapshot
    valid: ValidNetworks
    _source_ports: dict[PolicyKey, bool] = field(default_factory=dict)
    _verdicts: dict[tuple[object, ...], tuple[str | None, bool]] = field(default_factory=dict)

    @cached_property
    def _policies(self) -> RecordPolicies:
        return RecordPolicies(self.snapshot)

    @cached_property
    def routed_to(self) -> Mapping[str, Mapping[str, str]]:
        """The networks that a router joins with each network."""
        return joined(routers_in_order(self.snapshot), self.valid.by_reference)[0]

    @cached_property
    def _holders(self) -> dict[tuple[str, IpAddress], Endpoint]:
        """The active endpoint with each address of each network."""
        return {
            (e.network_id, address): e
            for e in self.snapshot.endpoints.values()
            if e.active
            for address in (e.ipv4_address, e.ipv6_address)
            if address is not None
        }

    @cached_property
    def _shares(self) -> Shares:
        """The addresses that active endpoints of each network are allowed."""
        shares = Shares()
        for endpoint in self.snapshot.endpoints.values():
            if endpoint.active and endpoint.allowed:
                shares.add(endpoint.id, shared(endpoint))
        return shares

    @cached_property
    def _by_identity(self) -> dict[int, Endpoint]:
        return {identity(e): e for e in self.snapshot.endpoints.values() if e.active}

    @cached_property
    def _unbound(self) -> set[str]:
        """Networks where addresses may be unknown machines': those with interfaces, and those without ranges of their own."""
        behind = {e.network_id for e in self.snapshot.endpoints.values() if has_unknown_macs(e)}
        return behind | {n.id for n in self.valid.by_id.values() if n.external or not (n.ip_range or n.ipv6_range)}

    def objection(self, connection: Connection) -> str | None:
        """Why a connection must end; None if it may stay. Zones of no network are somebody else's."""
        network = self.valid.by_zone.get(connection.zone)
        if network is None:
            return None
        ends: list[list[Endpoint | None]] = []
        for address, number in zip((connection.source, connection.replier), connection.ends, strict=True):
            holders = self._all_holders(network, address)
            if not holders and (owner := self._owner(network, address)) is not None:
                return f"no endpoint of network {owner.name} has {address}"
            if holders and number and number not in map(identity, holders):
                return f"{address} belonged to another endpoint than {holders[0].name or holders[0].id}"
            ends.append([e for e in holders if number in (0, identity(e))] or [None])
        former = self._former_sender(connection) if ends[0] == [None] else None
        if (
            former is not None and former not in ends[1]
        ):  # what comes in by the gateway has the identity of its target at both ends
            return f"{former.name or former.id} is not allowed {connection.source} any more"
        reason = None
        for sender, receiver in product(*ends):  # of endpoints that share an address, any may be the one
            reason = self._unpublished(network, connection, receiver) or self._refused(network, connection, sender, receiver)
            if reason is None:
                return None
        return reason

    def _all_holders(self, network: Network, address: IpAddress) -> list[Endpoint]:
        """The endpoint that has an address, or those that are allowed it."""
        for network_id in self._reached(network):
            if (holder := self._holders.get((network_id, address))) is not None:
                return [holder]
        ids = (e for network_id in self._reached(network) for e in self._shares.of((network_id, str(address))))
        return [self.snapshot.endpoints[e] for e in sorted(ids)]

    def _former_sender(self, connection: Connection) -> Endpoint | None:
        """The endpoint that sent the first packet, if it could not send from that address today, which is nobody else's either. Other
        addresses than its own are those of the link, and those of machines that are not known."""
        sender, source = self._by_identity.get(connection.ends[0]), connection.source
        if sender is None or sender.port is not None or sender.network_id in self._unbound:
            return None
        return None if source.is_link_local or source.is_unspecified or source.is_multicast else sender

    def _owner(self, network: Network, address: IpAddress) -> Network | None:
        """The network in which an address can only be an endpoint's."""
        reached = map(self.valid.by_id.__getitem__, self._reached(network))
        return next((each for each in reached if self._must_be_held(each, address)), None)

    def _reached(self, network: Network) -> Iterator[str]:
        """A network, and those that a router joins with it, by id."""
        yield network.id
        yield from self.routed_to.get(network.id, ())

    def _must_be_held(self, network: Network, address: IpAddress) -> bool:
        """Whether an address can only be an endpoint's: it is in the network's range, and no gateway's and no group's."""
        network_range, gateway = (
            (network.ip_range, network.gateway) if address.version == 4 else (network.ipv6_range, network.ipv6_gateway)
        )
        if network_range is None or network.id in self._unbound or address not in network_range or address.is_multicast:
            return False
        return address != network_range.broadcast_address and (gateway is None or address != gateway.ip)

    def _unpublished(self, network: Network, connection: Connection, receiver: Endpoint | None) -> str | None:
        """Why the port by which a connection came in leads there no more."""
        inside = (PORTS.get(connection.proto), connection.replier_port)
        if connection.origin == ORIGIN_TUNNEL:
            leads = any((proto, port) == inside and receiver in members for proto, _, port, members in self._services(network))
            return None if leads else f"no service of network {network.name} leads to {connection.replier}"
        gateway = gateway_of(network, connection.zone, None, 0, self.snapshot.cluster.transit)
        if gateway is None or connection.target not in (gateway.transit4, gateway.transit6):
            return None
        outside = connection.target_port
        if receiver is not None and any(
            (p.proto, host_port, port) == (inside[0], outside, inside[1]) for p in receiver.publish for host_port, port in p.pairs
        ):
            return None
        if any(
            (proto, port) == inside and host_port == outside and receiver in members
            for proto, host_port, port, members in self._services(network)
        ):
            return None
        return f"port {outside} is not published to {connection.replier} port {connection.replier_port}"

    @cached_property
    def _served(self) -> dict[str, list[tuple[str, int, int, tuple[Endpoint, ...]]]]:
        return {
            network_id: [
                (s.proto, s.host_port, s.port, service_members(s, network_id, self._policies.selected)) for s in services
            ]
            for network_id, services in served(services_in_order(self.snapshot), self.valid.by_reference)[0].items()
        }

    def _services(self, network: Network) -> list[tuple[str, int, int, tuple[Endpoint, ...]]]:
        return self._served.get(network.id, [])

    # ---- policies -------------------------------------------------------------------------------------------------

    def _refused(
        self, network: Network, connection: Connection, sender: Endpoint | None, receiver: Endpoint | None
    ) -> str | None:
        """Why policy would not let a connection begin, or would not let its replies come back unasked."""
        if sender is None and network.id in self._unbound:
            return None  # the ACL of the interface, or of the endpoint without an address, has decided
        policies = (self._sends(network, sender), self._policies.of(receiver).receives if receiver is not None else None)
        unknown = UNKNOWN if self._macs_known(connection, sender, receiver) else UNKNOWN | MACS
        source_port = connection.source_port if any(key and self._by_source_port(key) for key in policies) else 0
        ports = (source_port, connection.replier_port)
        question = (policies, unknown, connection.source, connection.replier, connection.proto, ports, connection.icmp)
        if question not in self._verdicts:
            self._verdicts[question] = self._judge(policies, _first_packet(connection, sender, receiver), unknown)
        reason, related = self._verdicts[question]
        if reason is None and connection.mark == MARK_RELATED and not related:
            return "no rule with allow_related allows it any more"
        return reason

    def _macs_known(self, connection: Connection, sender: Endpoint | None, receiver: Endpoint | None) -> bool:
        """Whether the first packet had the MACs of these two. An allowed address may have another, and a router sets its own."""
        if sender is None or receiver is None or sender.network_id != receiver.network_id:
            return False
        ends = ((sender, connection.source), (receiver, connection.replier))
        return all(address in (e.ipv4_address, e.ipv6_address) for e, address in ends)

    def _sends(self, network: Network, sender: Endpoint | None) -> PolicyKey | None:
        return self._policies.of(sender).sends if sender is not None else enters(network)

    def _judge(
        self, policies: Iterable[PolicyKey | None], sent: PacketFields, unknown: frozenset[str]
    ) -> tuple[str | None, bool]:
        """Why the policies refuse a packet, and whether a rule lets its replies come back."""
        related = False
        for key in policies:
            if key is None:
                continue
            rules = self._policies.rules(key)
            if rules is None:
                return f"an ACL of {', '.join(key.acls)} does not exist", False
            verdict = possible(rules, sent, partial(self._policies.members, key.network_id), unknown)
            if not verdict.allow:
                return _refusal(key, verdict), False
            related |= verdict.related
            sent = verdict.packet
        return None, related

    def _by_source_port(self, key: PolicyKey) -> bool:
        """Whether a rule of a policy names source ports. Where none does, one verdict holds for all source ports."""
        if key not in self._source_ports:
            names = {match.name for _, _, rule in self._policies.rules(key) or () for match in rule.fields}
            self._source_ports[key] = any(name.endswith("p_src") and not name.startswith("ip") for name in names)
        return self._source_ports[key]


def _refusal(key: PolicyKey, verdict: Verdict) -> str:
    return (
        f"refused by {verdict.acl}#{verdict.rule}" if verdict.rule is not None else f"no rule of {', '.join(key.acls)} allows it"
    )


def _first_packet(connection: Connection, sender: Endpoint | None, receiver: Endpoint | None) -> PacketFields:
    """The packet that began a connection, as the ACLs saw it: published ports are translated by then, senders are not yet."""
    version = connection.source.version
    fields: dict[str, Any] = {"eth_type": IPV4 if version == 4 else IPV6, "ip_proto": connection.proto}
    fields |= {f"ipv{version}_src": str(connection.source), f"ipv{version}_dst": str(connection.replier)}
    if (name := PORTS.get(connection.proto)) is not None:
        fields |= {f"{name}_src": connection.source_port, f"{name}_dst": connection.replier_port}
    if connection.icmp is not None:
        fields |= {f"icmpv{version}_type": connection.icmp[0], f"icmpv{version}_code": connection.icmp[1]}
    for end, endpoint in (("eth_src", sender), ("eth_dst", receiver)):
        if endpoint is not None:
            fields[end] = endpoint.mac_address
    return packet(**fields, states={"new"})
