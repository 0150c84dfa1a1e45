"""Runs nft(8), keeps a table of Warren's own as wanted, and writes parts of nft's language."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from ipaddress import collapse_addresses, ip_network
from typing import Any

from warren.errors import Unavailable

TIMEOUT_S = 10.0
FAMILY = {4: "ip", 6: "ip6"}


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


class OwnTable:
    """Keeps an inet table of Warren's own as wanted. `subject` names the table in differences."""

    def __init__(self, name: str, subject: str) -> None:
        self._name, self._subject = name, subject
        self._loaded: tuple[str, str | None] | None = None  # what was loaded, and how nft prints it

    def reconcile(self, ruleset: str) -> None:
        """Load the commands that make the table, in one transaction, unless they are loaded and nobody has changed the table since. Raises
        `Unavailable`."""
        if self.differences(ruleset):
            run(commands=ruleset)
            self._loaded = ruleset, table(self._name)

    def differences(self, ruleset: str | None) -> list[str]:
        """Return how the table differs, a line each; `ruleset` None: the table should not exist. Raises `Unavailable`."""
        printed = table(self._name)
        if ruleset is None:
            return [f"{self._subject}: nftables table inet {self._name} exists"] if printed is not None else []
        if printed is None:
            return [f"{self._subject}: nftables table inet {self._name} does not exist"]
        same = self._loaded == (ruleset, printed)
        return [] if same else [f"{self._subject}: nftables table inet {self._name} is not as Warren has made it"]

    def remove(self) -> None:
        """Remove the table, if it exists. Raises `Unavailable`."""
        if table(self._name) is not None:
            run("delete", "table", "inet", self._name)
        self._loaded = None

    def packets(self) -> dict[str, int]:
        """Return the packets of the table's counters, by name; empty without the table. Raises `Unavailable`."""
        return packets(self._name)


def packets(name: str) -> dict[str, int]:
    """Return the packets of an inet table's counters, by name; empty without the table. Raises `Unavailable`."""
    return counted(objects("list", "counters", "table", "inet", name)) if table(name) is not None else {}


def counted(listed: Iterable[dict[str, dict[str, object]]]) -> dict[str, int]:
    """Return the packets of named counters, from what nft lists as JSON. Pure."""
    counters = (item["counter"] for item in listed if "counter" in item)
    return {str(counter["name"]): int(str(counter["packets"])) for counter in counters}


def by_version(ranges: Iterable[object]) -> Iterator[tuple[int, list[str]]]:
    """Yield each version of IP that occurs, with its addresses or ranges, none inside another: nft refuses a set whose ranges overlap. Pure."""
    parsed = [ip_network(str(each)) for each in ranges]
    for version in FAMILY:
        if of_version := [network for network in parsed if network.version == version]:
            yield version, [str(network) for network in collapse_addresses(of_version)]  # type: ignore[type-var]


def set_of(elements: Iterable[str]) -> str:
    """Return an anonymous set. Pure."""
    return f"{{ {', '.join(elements)} }}"
