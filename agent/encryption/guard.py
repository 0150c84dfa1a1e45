"""The guard: one nftables table that drops tunnel packets in clear text at the outside interface, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

TABLE = "warren-guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The outside interface that is guarded, and the UDP ports of tunnels."""

    interface: str
    ports: tuple[int, ...]


def ruleset(guard: Guard) -> str:
    """Return the commands that make the table, in one transaction. The counters keep their values."""
    ports = ", ".join(map(str, sorted(guard.ports)))
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
    }}
    chain outgoing {{
        oifname "{guard.interface}" udp dport {{ {ports} }} counter name sent drop
    }}
}}
"""
