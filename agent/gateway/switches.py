"""The sysctls that switch IP forwarding on, and the values that they had before Warren.

These values stand in a file below `WARREN_RUN` and in the comment of Warren's nftables table, because each of the two can be
lost: the table by `nft flush ruleset`, the file with a container that the agent runs in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.gateway.rules import kept_switches

FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}
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

    def on(self, versions: Iterable[int]) -> None:
        """Switch forwarding on for these versions of IP."""
        for version in versions:
            _set(FORWARDING[version], "1")

    def restore(self, table: str | None) -> None:
        """Give the sysctls their earlier values, if Warren has changed them."""
        if table is None and self._kept() is None:
            return
        before = self.before(table)
        for version, path in FORWARDING.items():
            if str(version) in before:
                _set(path, before[str(version)])
        self._path.unlink(missing_ok=True)

    def _kept(self) -> Mapping[str, str] | None:
        try:
            data = json.loads(self._path.read_text())
            return dict(data["values"]) if data["boot"] == BOOT_ID.read_text().strip() else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, values: Mapping[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".new")
        partial.write_text(json.dumps({"boot": BOOT_ID.read_text().strip(), "values": values}))
        os.replace(partial, self._path)


def _set(path: Path, value: str) -> None:
    if path.read_text().strip() != value:
        path.write_text(value)
