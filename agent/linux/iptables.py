"""Runs iptables(8), in both of its variants: over nftables and the older one of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from warren.errors import Unavailable

TIMEOUT_S = 10.0
LOCK_S = 5  # how long iptables waits for another iptables
NAMES = {4: "iptables", 6: "ip6tables"}
_LEGACY = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


def over_nft(version: int) -> str | None:
    """Return the name of the program over nftables for a version of IP; None if this host has none."""
    return next((name for name in (f"{NAMES[version]}-nft", NAMES[version]) if shutil.which(name)), None)


def legacy(version: int) -> str | None:
    """Return the name of the older program; None if this host has none, or does not use its table `filter`."""
    name = f"{NAMES[version]}-legacy"
    try:
        used = "filter" in _LEGACY[version].read_text().split()  # running the program would load its modules
    except OSError:
        return None
    return name if used and shutil.which(name) else None


def run(program: str, *arguments: str) -> str:
    """Run a program with these arguments; return its output. Raises `Unavailable`."""
    try:
        completed = subprocess.run(
            [program, "-w", str(LOCK_S), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(program, f"it does not run ({getattr(error, 'strerror', None) or error})") from None
    if completed.returncode != 0:
        raise Unavailable(program, (completed.stderr.strip().splitlines() or ["it failed"])[0])
    return completed.stdout
