"""Settings of the whole cluster: the transit ranges, by which hosts and networks in mode nat reach each other. Pure.

clusters: [{name: default, transit4: 198.18.0.0/15}]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from specs.model.base import Item, Name, Record, require_text
from specs.model.ranges import unusable

CLUSTER = "default"  # the only one
TRANSIT4 = IPv4Network("100.126.0.0/15")  # shared address space, RFC 6598
TRANSIT6 = IPv6Network("fd57:7272:656e::/63")  # a unique local prefix, RFC 4193
NARROWEST = {4: 15, 6: 111}  # half of the range has an address for each of the 65 535 conntrack zones
_ZONE_BITS = 16
_PORT_BITS = 15  # the narrowest range has room for half of the port numbers
_LINK_LENGTH = {4: 30, 6: 64}


def _transit(value: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    reason = unusable(value)
    if reason is None and value.prefixlen > NARROWEST[value.version]:
        reason = "too small: half of it needs an address for each of the 65535 conntrack zones of a host"
    if reason is not None:
        example = {4: "198.18.0.0/15", 6: "fd12:3456:789a::/63"}[value.version]
        raise ValueError(
            f"a range of /{NARROWEST[value.version]} or wider that no host uses, such as {example} ({value} is {reason})"
        )
    return value


Transit4 = Annotated[IPv4Network, BeforeValidator(require_text), AfterValidator(_transit)]
Transit6 = Annotated[IPv6Network, BeforeValidator(require_text), AfterValidator(_transit)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transit:
    """What the two ranges are used for: the lower half has the link between a host and its gateways (`host`, `next_hop`) and an address for each
    OpenFlow port number (`ports`), the upper half an address for each conntrack zone (`zones`)."""

    host4: IPv4Interface
    next_hop4: IPv4Address
    ports4: IPv4Network
    zones4: IPv4Network
    host6: IPv6Interface
    next_hop6: IPv6Address
    ports6: IPv6Network
    zones6: IPv6Network


@lru_cache(maxsize=8)
def transit(range4: IPv4Network = TRANSIT4, range6: IPv6Network = TRANSIT6) -> Transit:
    """The use of these ranges."""
    lower4, upper4 = range4.subnets(prefixlen_diff=1)
    lower6, upper6 = range6.subnets(prefixlen_diff=1)
    length6 = max(_LINK_LENGTH[6], lower6.prefixlen)
    return Transit(
        host4=IPv4Interface(f"{lower4[1]}/{_LINK_LENGTH[4]}"),
        next_hop4=lower4[2],
        ports4=IPv4Network((lower4[1 << _PORT_BITS], 32 - _PORT_BITS)),
        zones4=IPv4Network((upper4[0], 32 - _ZONE_BITS)),
        host6=IPv6Interface(f"{lower6[1]}/{length6}"),
        next_hop6=lower6[2],
        ports6=IPv6Network((lower6[1 << _PORT_BITS], 128 - _PORT_BITS)),
        zones6=IPv6Network((upper6[0], 128 - _ZONE_BITS)),
    )


class ClusterFields(BaseModel):
    """The fields that a document, a request and the record of the cluster share."""

    transit4: Transit4 = TRANSIT4
    transit6: Transit6 = TRANSIT6


class Cluster(ClusterFields, Record):
    """Settings of the whole cluster. The only one is `default`."""

    name: Annotated[str, Field(pattern="^default$")] = CLUSTER
    created_at: str | None = None

    @property
    def ranges(self) -> tuple[tuple[str, IPv4Network | IPv6Network], ...]:
        """The transit ranges, by field."""
        return ("transit4", self.transit4), ("transit6", self.transit6)

    @property
    def transit(self) -> Transit:
        """What the ranges are used for."""
        return transit(self.transit4, self.transit6)


class ClusterItem(ClusterFields, Item):
    """Settings of the whole cluster, in a document."""

    name: Name = CLUSTER
