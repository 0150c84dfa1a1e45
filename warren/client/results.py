"""An agent's answers as frozen dataclasses. Fields that an agent does not send (SAND's, an older one) have their defaults.
Every result has `raw`, the JSON object as it came, for what has no field here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self, TypeVar


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of all results. `raw` is the JSON object as it came."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, data: Any) -> Self:
        """Build the result from a JSON object; absent and null fields have their defaults."""
        data = data if isinstance(data, dict) else {}
        values: dict[str, Any] = {"raw": data}
        for spec in fields(cls):
            names = spec.metadata.get("json", (spec.name,))
            value = next((data[name] for name in names if data.get(name) is not None), None)
            if spec.name == "raw" or value is None:
                continue
            if (item := spec.metadata.get("item")) is not None:
                value = tuple(map(item.of, value)) if isinstance(value, list) else item.of(value)
            values[spec.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the agent has said about a record that it wrote, such as a name in it that nothing has."""
        return tuple(map(str, self.raw.get("warnings") or ()))


R = TypeVar("R", bound=Result)


def all_of(kind: type[R], answer: Mapping[str, Any], section: str) -> tuple[R, ...]:
    """The results in a list of an answer."""
    return tuple(map(kind.of, answer.get(section) or ()))


def _named(*json: str, default: Any = "") -> Any:
    """A field whose JSON name differs; the first one that an agent sends counts."""
    return field(default=default, metadata={"json": json})


def _nested(item: type[Result], default: Any = MISSING) -> Any:
    """A field that is a result, or several."""
    return field(default=() if default is MISSING else default, metadata={"item": item})


def _mapping() -> Any:
    return field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Network(Result):
    """An isolated layer 2 network. `name` finds it; a name that SAND's client gave, which need not be unique, is `raw["name"]`. Ranges and gateways are CIDR text, empty where there are none."""

    id: str = ""
    name: str = _named("unique_name", "name")
    created_at: str = ""
    type: str = "overlay"
    vxlan_vni: int = 0
    ip_range: str = ""
    gateway: str = ""
    ipv6_range: str = ""
    ipv6_gateway: str = ""
    mode: str = "flat"
    tenant: str = "default"
    profile: str = "default"
    mtu: int | None = None
    vlan: int | None = None
    vlan_transparent: bool = False
    default_acl: tuple[str, ...] = ()
    vlan_out_acl: tuple[str, ...] = ()
    nat_acl: tuple[str, ...] = ()
    ct_limit: int | None = None
    host_access: str = "none"
    dns_server: bool = False
    preallocate: int | None = None
    dhcp: bool | str = False
    dns: tuple[str, ...] = ()
    domain: str | None = None
    labels: Mapping[str, str] = _mapping()


@dataclass(frozen=True, kw_only=True)
class PublishedPort(Result):
    """A port of a host, or a range such as `8000-8010`, that leads to a port of an endpoint."""

    host_port: int | str = 0
    port: int | str = 0
    proto: str = "tcp"
    host_ip: str | None = None

    def data(self) -> dict[str, Any]:
        """The JSON object."""
        data = {"host_port": self.host_port, "port": self.port, "proto": self.proto}
        return data | ({"host_ip": self.host_ip} if self.host_ip else {})


@dataclass(frozen=True, kw_only=True)
class AllowedAddress(Result):
    """An address or a range that an endpoint may have besides its own, and the MAC that it has there (None: the endpoint's)."""

    address: str = ""
    mac: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint(Result):
    """A port on a network. `ipv4` and `ipv6` have a prefix length, or are empty. Its controller reports `state` and `reason`; a list has them with `states=True`."""

    id: str = ""
    name: str = ""
    network_id: str = ""
    network: str = ""
    host: str = _named("hostname")
    host_ip: str = ""
    created_at: str = ""
    active: bool = False
    netns: str = _named("target_netns_path")
    interface: str = _named("target_veth_name")
    mac: str = _named("target_veth_mac")
    ipv4: str = _named("target_veth_ip")
    ipv6: str = _named("target_veth_ipv6")
    host_interface: str = _named("overlay_veth_name")
    ofport: int | None = None
    port: str | None = None
    parent: str | None = None
    device: str | None = None
    iface_id: str | None = None
    machine: str | None = None
    keep_netns: bool = False
    vlan: int | None = None
    coprocessor: Mapping[str, Any] | None = field(default=None, hash=False)
    acls: tuple[str, ...] | None = None
    published: tuple[PublishedPort, ...] = field(default=(), metadata={"json": ("publish",), "item": PublishedPort})
    allowed: tuple[AllowedAddress, ...] = _nested(AllowedAddress)
    aliases: tuple[str, ...] = ()
    labels: Mapping[str, str] = _mapping()
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Tunnels(Result):
    """A host's tunnels in use: how many peers it probes, those whose probes fail and how, and by which profiles."""

    known: int = 0
    broken: Mapping[str, str] = _mapping()
    profiles: Mapping[str, Mapping[str, str]] = _mapping()


@dataclass(frozen=True, kw_only=True)
class Host(Result):
    """A host and what its agent and controller report. `endpoints` counts its endpoints by state. `outside` says how hosts of
    other sites reach it; `underlay` is "cloud" where its addresses follow a cloud's metadata."""

    name: str = ""
    vtep: str = ""
    site: str | None = None
    underlay: str | None = None
    outside: Mapping[str, Any] = _mapping()
    underlay_mtu: int | None = None
    api: str | None = None
    agent: str = "dead"
    agent_version: str = ""
    controller: str = "dead"
    connected: bool = False
    revision: int | None = None
    current: bool = False
    flows: int | None = None
    tunnels: Tunnels = field(default=Tunnels(), metadata={"item": Tunnels})
    endpoints: Mapping[str, int] = _mapping()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Status(Result):
    """All hosts. `revision` is the newest revision of the specs, `problems` are records that name what does not exist. While etcd is
    unavailable, `etcd` says why, and `hosts` has the agent's own host alone."""

    revision: int = 0
    etcd: str | None = None
    problems: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = _nested(Host)

    @property
    def late(self) -> tuple[str, ...]:
        """The hosts whose controller is alive and has not applied the newest revision."""
        return tuple(host.name for host in self.hosts if host.controller == "alive" and not host.current)


@dataclass(frozen=True, kw_only=True)
class Change(Result):
    """A difference between a document and the store. `fields` maps each changed field to its `old` and `new` value."""

    action: str = ""
    kind: str = ""
    name: str = ""
    fields: Mapping[str, Mapping[str, Any]] = _mapping()


@dataclass(frozen=True, kw_only=True)
class PairChange(Result):
    """Packets between two endpoints, such as `tcp 443`, that a document would newly allow or deny."""

    src: str = ""
    dst: str = ""
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Progress(Result):
    """How far `apply` is: `done` of `total` changes are `checked` or, as `phase` says, `written`."""

    phase: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Applied(Result):
    """The outcome of `apply`. `late` names what had not caught up after `wait_s`; `pairs` is for a dry run only."""

    changes: tuple[Change, ...] = _nested(Change)
    late: tuple[str, ...] = ()
    pairs: tuple[PairChange, ...] = _nested(PairChange)
    pairs_not_compared: int = 0


@dataclass(frozen=True, kw_only=True)
class AclSummary(Result):
    """An ACL in a list. `rules` is their number, `used_by` names records as KIND/NAME."""

    name: str = ""
    rules: int = 0
    stateful: bool = False
    description: str | None = None
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AclList(Result):
    """All ACLs; `missing` are those that records name and that do not exist."""

    acls: tuple[AclSummary, ...] = _nested(AclSummary)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AclRule(Result):
    """A rule in FAUCET's language, and the packets that it has matched on all hosts."""

    number: int = 0
    rule: Mapping[str, Any] = _mapping()
    packets: int = 0


@dataclass(frozen=True, kw_only=True)
class Acl(Result):
    """An ACL with its rules. The packets of `unreachable_hosts` are not counted."""

    name: str = ""
    stateful: bool = False
    description: str | None = None
    used_by: tuple[str, ...] = ()
    rules: tuple[AclRule, ...] = _nested(AclRule)
    unreachable_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decision(Result):
    """Whether a packet passes, by which rules, and why."""

    allow: bool = False
    rules: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class AclCheck(Result):
    """What decides over a packet, by the specs and by the switches; the two should `agree`."""

    allow: bool = False
    agree: bool = False
    by_specs: Decision = field(default=Decision(), metadata={"item": Decision})
    by_switch: Decision = field(default=Decision(), metadata={"item": Decision})


@dataclass(frozen=True, kw_only=True)
class Meter(Result):
    """A rate limit that rules of ACLs name. `rate` is in packets/s if `packets`, else in kbit/s."""

    name: str = ""
    meter_id: int = 0
    rate: int = 0
    packets: bool = False
    burst: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mirror(Result):
    """A mirror session: packets of `sources` are copied to `to`."""

    name: str = ""
    sources: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    to: Mapping[str, Any] = _mapping()
    direction: str = "both"
    match: Any = field(default=None, hash=False)
    vlan: int | None = None
    snap: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster(Result):
    """Settings of the whole cluster: the ranges by which hosts and networks in mode nat reach each other."""

    transit4: str = ""
    transit6: str = ""


@dataclass(frozen=True, kw_only=True)
class Router(Result):
    """A router: networks that reach each other. `router(name)` also fills `ranges`, the ranges of each network."""

    name: str = ""
    networks: tuple[str, ...] = ()
    ranges: Mapping[str, list[str]] = _mapping()


@dataclass(frozen=True, kw_only=True)
class Service(Result):
    """A port of the hosts that leads to several endpoints, chosen by `label` or by name."""

    name: str = ""
    network: str = ""
    host_port: int = 0
    port: int = 0
    proto: str = "tcp"
    label: str | None = None
    endpoints: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Flow(Result):
    """A flow of a switch; `origin` is the spec behind it, as KIND/NAME."""

    table: str = ""
    priority: int = 0
    packets: int = 0
    origin: str = ""
    match: str = ""
    actions: str = ""
    cookie: Any = None


@dataclass(frozen=True, kw_only=True)
class FlowCheck(Result):
    """A host's flows against a full recompute from the store: how many there are, and those that differ, as text."""

    flows: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()  # everything else on the host that is not as the specs call for


@dataclass(frozen=True, kw_only=True)
class Trace(Result):
    """A packet followed through the switches. `hosts` has the steps on each host, as JSON; `text` is all of it for people."""

    src: str = ""
    dst: str = ""
    proto: str = ""
    verdict: str = ""
    reason: str = ""
    hosts: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    text: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the packet arrives."""
        return self.verdict == "delivered"


@dataclass(frozen=True, kw_only=True)
class CaptureCounts(Result):
    """Counts of the packets that a capture has sent, and of those dropped because the client read too slowly."""

    packets: int = 0
    dropped: int = 0
