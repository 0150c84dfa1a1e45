"""The guard: one nftables table that drops tunnel packets in clear text at the outside interface, in both directions, and those to tunnel addresses
that were not encrypted.

Where the datapath is in userspace, the kernel sees no tunnel packet inside the site. There Open vSwitch takes what is for a tunnel address by the MAC of
its interface alone, which nobody in the site sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.tunnels import TUNNEL_RANGE

TABLE = "warren-guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The outside interface that is guarded, the interfaces that may have the tunnel address (`decrypted`), and the UDP ports of tunnels."""

    interface: str
    decrypted: tuple[str, ...]
    ports: tuple[int, ...]


def ruleset(guard: Guard) -> str:
    """Return the commands that make the table, in one transaction. The counters keep their values."""
    ports = ", ".join(map(str, sorted(guard.ports)))
    decrypted = ", ".join(f'"{name}"' for name in (*guard.decrypted, "lo"))
    return f"""\
table inet {TABLE} {{
    counter received {{ }}
    counter sent {{ }}
    chain incoming {{ type filter hook prerouting priority -350; policy accept; }}
    chain outgoing {{ type filter hook postrouting priority -350; policy accept; }}
}}
flush table inet {TABLE}
table inet {TABLE} {{
    chain incoming {{
        iifname "{guard.interface}" udp dport {{ {ports} }} counter name received drop
        iifname != {{ {decrypted} }} ip daddr {TUNNEL_RANGE} udp dport {{ {ports} }} counter name received drop
    }}
    chain outgoing {{
        oifname "{guard.interface}" udp dport {{ {ports} }} counter name sent drop
    }}
}}
"""
