"""The allow list: which packets the outside interface accepts, as one nftables table of Warren's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.linux.nft import FAMILY, by_version, set_of
from pipeline.protocols import IpAddress, IpNetwork

TABLE = "warren-firewall"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """The outside interface, the addresses of other hosts, and the ranges of administrators. With `trial_s` the kernel itself lets everybody in again
    after that many seconds, even if the agent has died."""

    interface: str
    peers: frozenset[IpAddress] = frozenset()
    sources: tuple[IpNetwork, ...] = ()
    trial_s: int | None = None


def ruleset(allowed: AllowList) -> str:
    """Return the commands that make the table, in one transaction. The counter keeps its value.

    The chain comes before address translation, so it also decides about published ports, and after connection tracking, which recognises
    replies. A connection that an address outside the list began earlier is cut off.
    """
    rules = "\n        ".join(_rules(allowed))
    timeout = f" timeout {allowed.trial_s}s" if allowed.trial_s is not None else ""
    return f"""\
table inet {TABLE} {{
    counter refused {{ }}
    set interfaces {{ type ifname; flags timeout; }}
    chain incoming {{ type filter hook prerouting priority -150; policy accept; }}
    chain outside {{ }}
}}
flush table inet {TABLE}
flush set inet {TABLE} interfaces
add element inet {TABLE} interfaces {{ "{allowed.interface}"{timeout} }}
table inet {TABLE} {{
    chain incoming {{
        iifname @interfaces goto outside
    }}
    chain outside {{
        {rules}
    }}
}}
"""


def _rules(allowed: AllowList) -> Iterator[str]:
    yield "ct state established ct direction reply accept"
    yield "ct state related meta l4proto { icmp, ipv6-icmp } accept"
    # without these the interface has no neighbours, no addresses and no routes
    yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, mld-listener-query } ip6 hoplimit { 1, 255 } accept"
    yield "udp sport 67 udp dport 68 accept"
    yield "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"
    yield from _accepted(allowed.peers)
    yield from _accepted(allowed.sources)
    yield "counter name refused drop"


def _accepted(ranges: Iterable[IpNetwork | IpAddress]) -> Iterator[str]:
    for version, some in by_version(ranges):
        yield f"{FAMILY[version]} saddr {set_of(some)} accept"
