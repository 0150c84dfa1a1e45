"""Carries out the differences of a link: namespace, veth pair, bridge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from agent.encryption.link import (
    BRIDGE,
    FAR_SETTINGS,
    NEAR_SETTINGS,
    CryptoLink,
    LinkReading,
    differences,
    interface_of_values,
)
from agent.encryption.tunnels import converge
from agent.linux import cryptolink, named_namespaces
from agent.linux import netns as namespaces
from ovsdb.client import TIMEOUT_S, Ovsdb
from ovsdb.operations import CreateBridge, CreatePort, DeleteBridge, DeletePort
from ovsdb.rows import Bridge, Port, is_stale, present
from specs.model.derived import LinkNames
from warren.errors import Conflict

MARK: Mapping[str, str] = {
    "owner": "warren-encryption"
}  # not "warren": the controller removes rows of that owner that it does not want


class LinkDriver:
    """Reads and repairs the link of one host."""

    def __init__(self, ovsdb: Ovsdb, names: LinkNames) -> None:
        self._ovsdb, self._names = ovsdb, names

    def read(self, userspace: bool) -> LinkReading:
        """Return the link as it is on this host. Raises `WarrenError`."""
        names = self._names
        near = interface_of_values(cryptolink.read(names.near, NEAR_SETTINGS if userspace else ()))
        if not named_namespaces.is_ours(names.netns):
            return LinkReading(near=near)
        return LinkReading(
            netns=True,
            near=near,
            far=interface_of_values(cryptolink.read(names.far, FAR_SETTINGS, names.netns)),
            bridged=near is not None and self._bridged(),
            holder=interface_of_values(cryptolink.read(BRIDGE)) if userspace else near,
        )

    def differences(self, link: CryptoLink) -> list[str]:
        """Return how this host differs from the link. Raises `WarrenError`."""
        return [text for _, text in differences(link, self.read(link.userspace))]

    def reconcile(self, link: CryptoLink) -> None:
        """Repair what differs. Raises `WarrenError`."""
        converge(partial(self.read, link.userspace), partial(differences, link), partial(self._repair, link))

    def remove(self) -> None:
        """Remove bridge, veth pair and namespace, as far as they exist. Raises `WarrenError`."""
        bridge = self._ovsdb.observed().bridge(BRIDGE)
        if bridge is not None and bridge.external_ids.get("owner") == MARK["owner"]:
            self._ovsdb.apply([DeleteBridge(BRIDGE)])
        cryptolink.remove_netns(self._names.netns)
        cryptolink.remove_link(self._names.near)

    def _bridged(self) -> bool:
        observed = self._ovsdb.observed()
        port = observed.port(self._names.near)
        return observed.bridge(BRIDGE) is not None and port is not None and port.works and not is_stale(port, self._port())

    def _port(self) -> Port:
        """Return the wanted row of the veth's end, marked with the interface's index."""
        return present((Port(self._names.near, external_ids=MARK),), namespaces.interfaces())[0]

    def _repair(self, link: CryptoLink, part: str, reading: LinkReading) -> None:
        repairs: dict[str, Callable[[CryptoLink, LinkReading], None]] = {
            "netns": lambda link, _: cryptolink.make_netns(link.names.netns),
            "veth": self._make_veth,
            "near": self._set_near,
            "bridge": lambda _link, _reading: self._make_bridge(),
            "holder": self._set_holder,
            "far": self._set_far,
        }
        repairs[part](link, reading)

    def _make_veth(self, link: CryptoLink, reading: LinkReading) -> None:
        self._remove_port()
        cryptolink.make_veth(link.names.near, link.names.far, link.names.netns)

    def _set_near(self, link: CryptoLink, reading: LinkReading) -> None:
        cryptolink.write_settings(link.names.near, NEAR_SETTINGS if link.userspace else {}, ipv6=False)
        if link.userspace:
            for address in reading.near.addresses if reading.near is not None else ():
                cryptolink.remove_address(link.names.near, address)
        cryptolink.bring_up(link.names.near, link.outer_mtu)

    def _set_holder(self, link: CryptoLink, reading: LinkReading) -> None:
        cryptolink.bring_up(link.holder, link.outer_mtu)
        cryptolink.set_address(link.holder, link.holder_address)

    def _set_far(self, link: CryptoLink, reading: LinkReading) -> None:
        names = link.names
        cryptolink.write_settings(names.far, FAR_SETTINGS, netns=names.netns)
        cryptolink.no_proxy_delay(names.far, netns=names.netns)
        cryptolink.bring_up(names.far, link.outer_mtu, netns=names.netns)
        cryptolink.set_route(f"{link.address}/32", names.far, netns=names.netns)

    def _remove_port(self) -> None:
        """Take the veth's end off the bridge before the veth is made anew: Open vSwitch 3.1 would keep the old one."""
        port = self._ovsdb.observed().port(self._names.near)
        if port is not None and port.external_ids.get("owner") == MARK["owner"]:
            self._ovsdb.apply_and_settle([DeletePort(self._names.near)], time.monotonic() + TIMEOUT_S)

    def _make_bridge(self) -> None:
        observed = self._ovsdb.observed()
        bridge, port = observed.bridge(BRIDGE), observed.port(self._names.near)
        if bridge is not None and bridge.external_ids.get("owner") != MARK["owner"]:
            raise Conflict(f"bridge {BRIDGE!r} exists and is not Warren's (no external_ids:owner={MARK['owner']})")
        row = self._port()
        if port is not None:
            self._remove_port()
        new = CreateBridge(Bridge(BRIDGE, "netdev", (), "standalone", MARK, {}, (row,)))
        self._ovsdb.apply_and_settle([new if bridge is None else CreatePort(BRIDGE, row)], time.monotonic() + TIMEOUT_S)
