"""The guard: no tunnel packet passes the outside interface in clear text, in either direction. One nftables table of Warren's own."""

from __future__ import annotations

from dataclasses import dataclass

TABLE = "warren-guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is guarded: the outside interface, and the UDP ports of tunnels."""

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
