"""Mirror sessions: copies of what endpoints send and receive, for an endpoint, an interface of a host, or a collector. The record;
mirror/sessions.py derives what one host does for it.

    mirrors:
      - name: suspects
        sources: [{network: amber, label: role=web}, {network: blue, endpoint: db-1}, {network: lab}]
        direction: both
        match: {proto: tcp, tcp_dst: [80, 443]}
        to: {host: h3, interface: tap0}
        vlan: 356
"""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from acl.language import Rule, Who, parse_rule
from specs.model.base import Flag, IfName, Item, Name, Record, Vlan, Vni, Whole
from specs.model.names import NetworkName

SnapLength = Annotated[Whole, Field(ge=14, le=65_535)]
Matches = dict[str, Any] | tuple[dict[str, Any], ...] | None
SOURCES_LIMIT = 256
ERSPAN_SESSIONS = 1023  # 10 bits; 0 is not used
MATCHES_LIMIT = 16
CAPTURE_PREFIX = "capture-"
_NOT_IN_A_MATCH = ("actions", "from", "to", "state", "allow_related", "log", "cookie", "description", "rule")


class Source(Record):
    """The endpoints whose packets are copied: one, all with a label (KEY or KEY=VALUE), or all of the network."""

    network: NetworkName
    endpoint: Name | None = None
    label: str | None = Field(default=None, min_length=1, max_length=300)

    @model_validator(mode="after")
    def _one(self) -> Source:
        if self.endpoint is not None and self.label is not None:
            raise ValueError("endpoint or label, not both")
        return self

    @property
    def who(self) -> Who:
        """The source as a selector of ACL rules."""
        if self.endpoint is not None:
            return Who(endpoint=self.endpoint)
        return Who(label=self.label) if self.label is not None else Who(network=self.network)


COLLECTORS = ("gre", "erspan", "vxlan")


class Target(Record):
    """Where the copies go: an endpoint (`network`, `endpoint`), an interface of a host, or a collector: by GRE, by ERSPAN
    (`version` 1, or 2; draft-foschiano-erspan-03), by VXLAN. `key` is ERSPAN's session (10 bits) or the VNI."""

    network: NetworkName | None = None
    endpoint: Name | None = None
    host: Name | None = None
    interface: IfName | None = None
    gre: IPv4Address | None = None
    erspan: IPv4Address | None = None
    vxlan: IPv4Address | None = None
    key: Vni | None = None
    version: Literal[1, 2] | None = None

    @model_validator(mode="after")
    def _one(self) -> Target:
        stated = {name for name in ("network", "endpoint", "host", "interface", *COLLECTORS) if getattr(self, name) is not None}
        if stated not in ({"network", "endpoint"}, {"host", "interface"}, {"gre"}, {"erspan"}, {"vxlan"}):
            raise ValueError("one of {network, endpoint}, {host, interface}, {gre}, {erspan}, {vxlan}")
        if (self.version is not None and "erspan" not in stated) or (self.key is not None and not stated & {"erspan", "vxlan"}):
            raise ValueError("version only with erspan, key only with erspan and vxlan")
        if "erspan" in stated and self.key is not None and self.key > ERSPAN_SESSIONS:
            raise ValueError(f"key: a session of ERSPAN is 1 to {ERSPAN_SESSIONS}")
        return self

    @property
    def collector(self) -> tuple[str, IPv4Address] | None:
        """The protocol and the address of a collector; None for other targets."""
        return next(((kind, address) for kind in COLLECTORS if (address := getattr(self, kind)) is not None), None)


class Mirror(Record):
    """A mirror session. Copies cross between hosts with `vni`, get the tag `vlan`, and are cut to `snap` bytes."""

    name: Name
    sources: tuple[Source, ...] = Field(min_length=1, max_length=SOURCES_LIMIT)
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None
    to: Target
    vlan: Vlan | None = None
    active: Flag = True
    vni: Vni
    created_at: str | None = None
    _rules: tuple[Rule, ...] = PrivateAttr((Rule(),))

    @model_validator(mode="after")
    def _no_cut_in_a_tunnel(self) -> Mirror:
        if self.snap is not None and self.to.collector is not None:
            raise ValueError("snap: not together with a collector (Open vSwitch loses packets that are cut before a tunnel)")
        return self

    @field_validator("match")
    @classmethod
    def _plain(cls, value: Matches) -> Matches:
        if value is not None and not isinstance(value, dict) and not 1 <= len(value) <= MATCHES_LIMIT:
            raise ValueError(f"a match, or a list of 1 to {MATCHES_LIMIT}")
        for match in value if isinstance(value, tuple) else (value,):
            for word in match or ():
                if word in _NOT_IN_A_MATCH:
                    raise ValueError(f"{word}: a match has only fields of packets, proto and ports")
        return value

    def model_post_init(self, context: Any) -> None:
        """Parses the filter. Raises `Invalid`."""
        if isinstance(self.match, tuple):
            self._rules = tuple(_read(match, f"match[{i}]") for i, match in enumerate(self.match))
        elif self.match:
            self._rules = (_read(self.match, "match"),)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The filter as rules: a packet that matches any of them is copied once."""
        return self._rules

    @property
    def number(self) -> int:
        """The number of the session in a register while packets are copied: 31 bits, never 0."""
        return int.from_bytes(blake2b(self.name.encode(), digest_size=4).digest(), "big") >> 1 or 1


def _read(match: dict[str, Any], path: str) -> Rule:
    return parse_rule({**match, "actions": {"allow": 1}}, path)


class Capture(Mirror):
    """A temporary session, made by `warren capture` for one endpoint. Its key has a lease, so it disappears with the agent that serves it.
    Documents do not contain captures."""


def capture_name(host: str, number: int) -> str:
    """The name of a capture of a host's agent; `number` begins at 1. Numbers are used again, which keeps the number of metrics small."""
    return f"{CAPTURE_PREFIX}{blake2b(host.encode(), digest_size=4).hexdigest()}-{number}"


class MirrorItem(Item):
    """A mirror session; without `vni` one is allocated."""

    name: Name
    sources: tuple[Source, ...]
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None
    to: Target
    vlan: Vlan | None = None
    active: Flag = True

    @model_validator(mode="after")
    def _valid_as_a_mirror(self) -> MirrorItem:
        Mirror(**self.model_dump(), vni=1)
        return self
