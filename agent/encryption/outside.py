"""Finds the interface with a host's outside address, and checks that nftables can filter its packets."""

from __future__ import annotations

from agent.linux.addresses import interface_of
from ovsdb.client import Ovsdb
from specs.model.host import Host
from warren.errors import MISSING, Invalid


def outside_interface(host: Host, ovsdb: Ovsdb) -> str:
    """Return the outside interface. Raises `Invalid` if the host has none, if it is also the inside interface, or if it is a bridge of Open vSwitch."""
    if host.outside is None:
        raise Invalid("outside", MISSING, "an outside address (WARREN_OUTSIDE)")
    interface = host.outside.interface or interface_of(host.outside.address)
    if interface is None:
        raise Invalid("outside.address", str(host.outside.address), "an address of an interface of this host")
    if interface == interface_of(host.vtep):
        expected = f"another interface than that of the host's address inside its site ({host.vtep})"
        raise Invalid("outside.interface", interface, expected)
    if ovsdb.observed().bridge(interface) is not None:
        expected = "an interface that is no bridge of Open vSwitch, which would take its packets before the guard sees them"
        raise Invalid("outside.interface", interface, expected)
    return interface
