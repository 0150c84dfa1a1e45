"""Runs nft(8)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from warren.errors import Unavailable

TIMEOUT_S = 10.0


def run(*arguments: str, commands: str | None = None) -> str:
    """Run nft with these arguments, or with `commands` as its input; return its output. Raises `Unavailable`."""
    command = ["-f", "-"] if commands is not None else list(arguments)
    try:
        completed = subprocess.run(
            ["nft", *command], input=commands, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("nftables", f"nft does not run ({getattr(error, 'strerror', None) or error})") from None
    if completed.returncode != 0:
        raise Unavailable("nftables", (completed.stderr.strip().splitlines() or ["nft failed"])[0])
    return completed.stdout


def objects(*arguments: str) -> list[dict[str, Any]]:
    """Run a list command; return the objects that it prints, each with its kind as the only key. Raises `Unavailable`."""
    items: list[dict[str, Any]] = json.loads(run("-j", *arguments)).get("nftables", [])
    return items


def table(name: str) -> str | None:
    """Return an inet table as nft prints it, without the values of counters; None if it does not exist."""
    names = {item["table"]["name"] for item in objects("list", "tables", "inet") if "table" in item}
    return run("-s", "list", "table", "inet", name) if name in names else None
