"""What the hosts let in from outside: the guard alone, or an allow list, which is tried before it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipeline.protocols import IpAddress
from specs.model.base import Name, NestedValue, Record, Whole, require_text
from specs.model.host import Host

FIREWALL = "default"  # the only one
CONFIRM_WITHIN_S = 60
SOURCES_LIMIT = 1024

Mode = Literal["guard", "allowlist", "off"]
ConfirmWithin = Annotated[Whole, Field(ge=1, le=86_400)]


EXPECTED = "an address or a range without host bits, such as 203.0.113.0/24 or 2001:db8::/48"


def _range(value: Any) -> Any:
    require_text(value)
    if not isinstance(value, str):
        return value
    try:
        prefix = ip_network(value)
    except ValueError:
        raise ValueError(EXPECTED) from None
    if prefix.prefixlen == 0:
        raise ValueError("a range of administrators, not of everybody: mode guard lets everybody in")
    if prefix.is_multicast:
        raise ValueError("a unicast range")
    return prefix


AdminRange = Annotated[IPv4Network | IPv6Network, BeforeValidator(_range)]


class FirewallSettings(NestedValue):
    """`guard` drops tunnel packets in clear text. `allowlist` also refuses all that comes in from outside but what hosts, `sources` and replies
    send. `off` refuses nothing."""

    mode: Mode = "guard"
    sources: Annotated[tuple[AdminRange, ...], Field(max_length=SOURCES_LIMIT)] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, data: Any) -> Any:
        sources = data.get("sources") if isinstance(data, dict) else None
        return {**data, "sources": [sources]} if isinstance(sources, str) else data

    @model_validator(mode="after")
    def _sources_are_of_the_list(self) -> Self:
        if (self.mode == "allowlist") != bool(self.sources):
            raise ValueError(
                "sources with mode allowlist, at least one: otherwise no administrator gets in from outside; none with another mode"
            )
        return self


class Proposal(FirewallSettings):
    """Settings that hosts try: each takes them back by itself if nobody confirms them within so many seconds."""

    id: Name
    confirm_within_s: ConfirmWithin = CONFIRM_WITHIN_S


class Firewall(FirewallSettings, Record):
    """The firewall of all hosts on their outside interfaces. The only one is `default`."""

    name: Annotated[str, Field(pattern="^default$")] = FIREWALL
    proposal: Proposal | None = None
    created_at: str | None = None

    @property
    def settings(self) -> FirewallSettings:
        """What is confirmed."""
        return FirewallSettings(mode=self.mode, sources=self.sources)

    @property
    def proposed(self) -> FirewallSettings | None:
        """What is to be confirmed."""
        return FirewallSettings(mode=self.proposal.mode, sources=self.proposal.sources) if self.proposal is not None else None


def peers(host: str, hosts: Iterable[Host]) -> frozenset[IpAddress]:
    """The addresses from which the other hosts send to a host."""
    addresses: set[IpAddress] = set()
    for other in hosts:
        if other.name != host:
            addresses.add(other.vtep)
            if other.outside is not None:
                addresses |= {other.outside.address, other.outside.public or other.outside.address}
    return frozenset(addresses)
