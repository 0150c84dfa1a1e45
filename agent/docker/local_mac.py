"""Gives the host's bridge the MAC that a Docker network asks for (`ovs.bridge.ovs_local_mac`)."""

from __future__ import annotations

from agent.core import Core
from agent.docker.ledger import Ledger
from specs.model.host import BridgeSettings


def reconcile(core: Core, ledger: Ledger, given_up: str | None = None) -> None:
    """Set the MAC in the host's record if a Docker network asks for one and nobody has set another; take it away after the last network
    that asked for it, whose MAC is `given_up`. All networks share the bridge: of several MACs the first one stays."""
    host = core.cache.view.snapshot.hosts.get(core.host.name, core.host)
    settings = host.bridge or BridgeSettings()
    mac = chosen(
        settings.mac, sorted({entry["local_mac"] for entry in ledger.networks().values() if entry.get("local_mac")}), given_up
    )
    if mac != settings.mac:
        bridge = settings.model_copy(update={"mac": mac})
        core.repository.put_host(host.model_copy(update={"bridge": None if bridge == BridgeSettings() else bridge}))


def chosen(current: str | None, wanted: list[str], given_up: str | None) -> str | None:
    """Return the bridge's MAC: the current one, unless it is that of networks that are gone. Pure."""
    if current is not None and (current != given_up or current in wanted):
        return current
    return wanted[0] if wanted else None
