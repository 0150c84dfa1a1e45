"""The guard: no tunnel packet passes the outside interface in clear text, in either direction. One nftables table of Warren's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.linux import nft

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


class GuardTable:
    """Keeps the table as wanted."""

    def __init__(self) -> None:
        self._loaded: tuple[Guard, str | None] | None = None  # what was loaded, and how nft prints it

    def reconcile(self, guard: Guard) -> None:
        """Load the table unless it is as it was loaded. Raises `Unavailable`."""
        if not self.differences(guard):
            return
        nft.run(commands=ruleset(guard))
        self._loaded = guard, nft.table(TABLE)

    def differences(self, guard: Guard) -> list[str]:
        """Return how the table differs, a line each. Raises `Unavailable`."""
        table = nft.table(TABLE)
        if table is None:
            return [f"guard: nftables table inet {TABLE} does not exist"]
        return [] if self._loaded == (guard, table) else [f"guard: nftables table inet {TABLE} is not as Warren has made it"]

    def remove(self) -> None:
        """Remove the table, if it is there. Raises `Unavailable`."""
        if nft.table(TABLE) is not None:
            nft.run("delete", "table", "inet", TABLE)
        self._loaded = None


def dropped(objects: Iterable[dict[str, dict[str, object]]]) -> dict[str, int]:
    """Return how many packets the guard has dropped, by direction, from what nft lists as JSON."""
    counters = (item["counter"] for item in objects if "counter" in item)
    return {str(counter["name"]): int(str(counter["packets"])) for counter in counters}
