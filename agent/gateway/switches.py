"""Sets sysctls for the gateways, and restores their earlier values: IP forwarding, with IPv6 also `accept_ra`, so that the host still learns its
routes (agent/gateway/router_advertisements.py), and `route_localnet`, by which its processes reach published ports at 127.0.0.1.

The earlier values of forwarding are kept in a file below `WARREN_RUN` and in the comment of Warren's nftables table, because each of the two
can be lost: the table by `nft flush ruleset`, the file with the container that the agent runs in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from agent.gateway import router_advertisements
from agent.gateway.rules import kept_switches
from ovsdb.rows import UPLINK_PORT

FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}
LOCALNET = Path(f"/proc/sys/net/ipv4/conf/{UPLINK_PORT}/route_localnet")  # goes with the interface
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # the sysctls are new with each boot


class Switches:
    """Switches forwarding on and back. `path` is the file with the earlier values."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def before(self, table: str | None) -> Mapping[str, str]:
        """Return the values from before Warren, by version of IP, and keep them. `table` is Warren's table as nft prints it."""
        values = self._kept()
        if values is None:
            values = kept_switches(table) if table is not None else {}
            values = values or {str(version): path.read_text().strip() for version, path in FORWARDING.items()}
            self._keep(values)
        return values

    def on(self, versions: Collection[int]) -> None:
        """Switch forwarding on for these versions of IP. A host that did not forward IPv6 before keeps the routes that it learns from router
        advertisements."""
        if 6 in versions and self._learns():
            router_advertisements.accept()
        for version in versions:
            _set(FORWARDING[version], "1")
        if 4 in versions and LOCALNET.exists():
            _set(LOCALNET, "1")

    def restore(self, table: str | None) -> None:
        """Give the sysctls their earlier values, if Warren has changed them."""
        if table is None and self._kept() is None:
            return
        before = self.before(table)
        for version, path in FORWARDING.items():
            if str(version) in before:
                _set(path, before[str(version)])
        if self._learns():
            router_advertisements.give_back((self._read() or {}).get("accept_ra") or {})
        self._path.unlink(missing_ok=True)

    def differences(self, versions: Iterable[int]) -> list[str]:
        """Return a line for each sysctl that is not as these versions of IP need it."""
        off = [FORWARDING[version] for version in versions if FORWARDING[version].read_text().strip() != "1"]
        lines = [f"{path}: off, though networks of this host need forwarding" for path in off]
        if 4 in versions and LOCALNET.exists() and LOCALNET.read_text().strip() != "1":
            lines.append(f"{LOCALNET}: off, so published ports do not answer at 127.0.0.1")
        deaf = router_advertisements.to_accept(router_advertisements.current()) if 6 in versions and self._learns() else []
        return lines + [
            f"interface {name}: accept_ra is 1, so the host does not learn its routes while it forwards" for name in deaf
        ]

    def _learns(self) -> bool:
        """Return whether the host did not forward IPv6 before Warren, so that it learns routes from router advertisements."""
        return (self._kept() or {}).get("6") == "0"

    def _kept(self) -> Mapping[str, str] | None:
        data = self._read()
        return data["values"] if data is not None else None

    def _read(self) -> dict[str, dict[str, str]] | None:
        """Return the file's content; None if it is of another boot, or torn."""
        try:
            data = json.loads(self._path.read_text())
            if data["boot"] != BOOT_ID.read_text().strip():
                return None
            return {"values": dict(data["values"]), "accept_ra": dict(data.get("accept_ra") or {})}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, values: Mapping[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".new")
        accept_ra = router_advertisements.to_keep(router_advertisements.current())
        partial.write_text(json.dumps({"boot": BOOT_ID.read_text().strip(), "values": values, "accept_ra": accept_ra}))
        os.replace(partial, self._path)


def _set(path: Path, value: str) -> None:
    if path.read_text().strip() != value:
        path.write_text(value)
