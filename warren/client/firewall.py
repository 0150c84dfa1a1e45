"""The firewall of the hosts' outside interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from warren.client.calls import Operation, get, path, post, stated
from warren.client.results import Result


@dataclass(frozen=True, kw_only=True)
class FirewallProposal(Result):
    """What hosts try until it is confirmed, or taken back after so many seconds."""

    mode: str = ""
    sources: tuple[str, ...] = ()
    confirm_within_s: int = 0


@dataclass(frozen=True, kw_only=True)
class Firewall(Result):
    """What is confirmed: `mode` is guard, allowlist or off, `sources` are the ranges of administrators."""

    mode: str = "guard"
    sources: tuple[str, ...] = ()
    proposal: FirewallProposal | None = field(default=None, metadata={"item": FirewallProposal})


@dataclass(frozen=True, kw_only=True)
class HostFirewall(Result):
    """What is in force on a host. It does not apply to a host without an outside address. `refused` are packets."""

    host: str = ""
    mode: str = ""
    sources: tuple[str, ...] = ()
    applies: bool = False
    trial_left_s: int = 0
    refused: int = 0


def firewall() -> Operation[Firewall]:
    """The settings of the firewall."""
    return Firewall.of((yield get("/firewall")).get("firewall"))


def put_firewall(mode: str, *, sources: Sequence[str] = (), confirm_within_s: int | None = None) -> Operation[Firewall]:
    """Set the mode: guard, allowlist (with `sources`; taken back unless it is confirmed in time) or off."""
    body = stated(mode=mode, sources=sources or None, confirm_within_s=confirm_within_s)
    return Firewall.of((yield post("/firewall", body)).get("firewall"))


def confirm_firewall() -> Operation[Firewall]:
    """Keep the allow list that is on trial. Raises `Conflict` if there is none."""
    return Firewall.of((yield post("/firewall/confirm", {})).get("firewall"))


def host_firewall(host: str) -> Operation[HostFirewall]:
    """What is in force on a host."""
    return HostFirewall.of((yield get(path("hosts", host, "firewall"))))
