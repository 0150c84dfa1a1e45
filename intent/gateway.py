"""Gateways: the way out of a network, with addresses and MACs that every host computes alike. Pure.

The gateway has the same address and MAC on every host. Packets to the outside leave by an internal port of the host's own
bridge. A network in mode `nat` has a transit address there, derived from its conntrack zone, which no other network of the
host has; so networks with one subnet reach the outside at the same time. Protocols whose ports translation cannot change, such as
ICMP, get a transit address for each endpoint, derived from its OpenFlow port. The host masquerades the transit ranges
(agent/gateway/reconciler.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from specs.model.cluster import Transit
from specs.model.network import Network

GATEWAY_MAC = "02:57:00:00:00:01"  # no endpoint's: it would follow from 0.0.0.1
HOST_MAC = "02:57:00:00:00:02"  # the host's end of the internal port


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The gateway of a network on one host. `uplink` is the OpenFlow port to the host; None: there is none (yet). With
    `transit4` and `transit6`, addresses are translated on the way out (mode nat), in the conntrack zone `zone`. `policy`
    decides over packets from the outside (`nat_acl`); 0 lets all pass. `ports4` and `ports6` have the transit addresses of single
    endpoints, by OpenFlow port."""

    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    uplink: int | None
    zone: int
    transit4: IPv4Address | None = None
    transit6: IPv6Address | None = None
    policy: int = 0
    ports4: IPv4Network | None = None
    ports6: IPv6Network | None = None

    @property
    def nat(self) -> bool:
        """Whether addresses are translated."""
        return self.transit4 is not None or self.transit6 is not None

    def port_transits(self, ofport: int) -> tuple[IPv4Address | None, IPv6Address | None]:
        """The transit addresses of the endpoint at a port; None where it shares the network's."""
        ports4, ports6 = self.ports4, self.ports6
        return (
            ports4[ofport] if ports4 is not None and ofport < ports4.num_addresses else None,
            ports6[ofport] if ports6 is not None and ofport < ports6.num_addresses else None,
        )


def gateway_of(network: Network, zone: int, uplink: int | None, policy: int, transit: Transit) -> Gateway | None:
    """The gateway of a network; None in mode `flat`."""
    if network.mode == "flat":
        return None
    nat = network.mode == "nat"
    transit4 = transit.zones4[zone] if nat and network.gateway else None
    transit6 = transit.zones6[zone] if nat and network.ipv6_gateway else None
    return Gateway(
        ipv4=network.gateway,
        ipv6=network.ipv6_gateway,
        uplink=uplink,
        zone=zone,
        transit4=transit4,
        transit6=transit6,
        policy=policy,
        ports4=transit.ports4 if transit4 is not None else None,
        ports6=transit.ports6 if transit6 is not None else None,
    )
