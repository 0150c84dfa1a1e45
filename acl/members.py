"""What policies read of the objects that users declare, as protocols: the records of specs/model/ satisfy them. So the language of
ACLs needs no import of the specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from acl.language import Rule, Who
from pipeline.protocols import IpNetwork


class PolicyAcl(Protocol):
    """A list of rules."""

    @property
    def parsed(self) -> tuple[Rule, ...]:
        """The rules as values."""


class PolicyMeter(Protocol):
    """A rate limit."""

    @property
    def name(self) -> str:
        """The name by which rules refer to it."""

    @property
    def meter_id(self) -> int:
        """Its number in the switch."""

    @property
    def rate(self) -> int:
        """In kb/s; with `packets` in packets/s."""

    @property
    def burst(self) -> int:
        """In kb; with `packets` in packets."""

    @property
    def packets(self) -> bool:
        """Whether the unit is packets."""


class Member(Protocol):
    """An endpoint that a `from` or `to` selects."""

    @property
    def prefixes(self) -> list[IpNetwork]:
        """Its addresses, and those that it is allowed besides."""


class Named(Protocol):
    """An object with an id and a name, such as a network."""

    @property
    def id(self) -> str:
        """Its id, which is unique."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def references(self) -> tuple[str, ...]:
        """What finds it: its id and its names."""


class PolicyNetwork(Named, Protocol):
    """A network with its ACLs."""

    @property
    def mode(self) -> str:
        """`flat`, `nat` or `routed`; in mode `flat` the network has no gateway."""

    @property
    def default_acl(self) -> tuple[str, ...]:
        """The ACLs over what its endpoints send, unless they have their own."""

    @property
    def vlan_out_acl(self) -> tuple[str, ...]:
        """The ACLs over what its endpoints receive."""

    @property
    def nat_acl(self) -> tuple[str, ...]:
        """The ACLs over packets that enter by the gateway."""


class PolicyEndpoint(Protocol):
    """An endpoint with its own ACLs."""

    @property
    def acls(self) -> tuple[str, ...] | None:
        """Names of ACLs, as NAME or NETWORK:NAME."""


class HasAcls(Protocol):
    """A host or a tenant: its ACLs hold for all its endpoints."""

    @property
    def acls(self) -> tuple[str, ...]:
        """Names of ACLs."""


class Names(Protocol):
    """Resolves the names in rules for one host."""

    @property
    def acls(self) -> Mapping[str, PolicyAcl]:
        """All ACLs."""

    @property
    def meters(self) -> Mapping[str, PolicyMeter]:
        """All meters."""

    def members(self, network_id: str, who: Who) -> Iterable[Member]:
        """The endpoints that a `from` or `to` selects, seen from a network."""

    def ofport(self, network_id: str, port: str | int) -> int | None:
        """The OpenFlow port, on this host, of the endpoint that a rule of a network names."""
