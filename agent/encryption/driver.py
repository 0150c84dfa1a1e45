"""Carries out the differences of a link: namespace, veth pair, bridge, WireGuard's interface and its peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.encryption.link import (
    BRIDGE,
    FAR_SETTINGS,
    NEAR_SETTINGS,
    RANGE,
    WIREGUARD_SETTINGS,
    CryptoLink,
    LinkInterface,
    LinkReading,
    changed_peers,
    differences,
)
from agent.linux import cryptolink, named_namespaces, wireguard
from agent.linux import netns as namespaces
from ovsdb.client import TIMEOUT_S, Ovsdb
from ovsdb.rows import Bridge, CreateBridge, CreatePort, DeleteBridge, DeletePort, Port, is_stale, present
from specs.model.derived import LinkNames
from warren.errors import Conflict

MARK: Mapping[str, str] = {"owner": "warren-encryption"}  # not "warren": the controller removes what it does not want of that
ROUNDS = 8  # repairs that each make the next one possible


class LinkDriver:
    """Reads and repairs the link of one host."""

    def __init__(self, ovsdb: Ovsdb, names: LinkNames, key_file: Path) -> None:
        self._ovsdb, self._names, self._key_file = ovsdb, names, key_file
        self._configured: dict[str, str] = {}  # endpoints that were set last, by public key

    def read(self, userspace: bool) -> LinkReading:
        """Return what is there. Raises `WarrenError`."""
        names = self._names
        near = _nic(cryptolink.read(names.near, NEAR_SETTINGS if userspace else ()))
        if not named_namespaces.is_ours(names.netns):
            return LinkReading(near=near)
        wg = _nic(cryptolink.read(names.wireguard, WIREGUARD_SETTINGS, names.netns))
        return LinkReading(
            netns=True,
            near=near,
            far=_nic(cryptolink.read(names.far, FAR_SETTINGS, names.netns)),
            bridged=near is not None and self._bridged(),
            holder=_nic(cryptolink.read(BRIDGE)) if userspace else near,
            wireguard=wg,
            device=wireguard.device(names.netns, names.wireguard) if wg is not None else None,
        )

    def differences(self, link: CryptoLink) -> list[tuple[str, str]]:
        """Return how this host differs from the link. Raises `WarrenError`."""
        return differences(link, self.read(link.userspace), self._configured)

    def reconcile(self, link: CryptoLink) -> LinkReading:
        """Repair what differs; return what is there then. Raises `WarrenError`."""
        for _ in range(ROUNDS):
            reading = self.read(link.userspace)
            parts = dict.fromkeys(part for part, _ in differences(link, reading, self._configured))
            if not parts:
                break
            for part in parts:
                self._repair(part, link, reading)
        self._configured = {key: self._configured.get(key, peer.endpoint) for key, peer in link.peers.items()}
        return reading

    def remove(self) -> None:
        """Remove all of it, if it is there. Raises `WarrenError`."""
        bridge = self._ovsdb.observed().bridge(BRIDGE)
        if bridge is not None and bridge.external_ids.get("owner") == MARK["owner"]:
            self._ovsdb.apply([DeleteBridge(BRIDGE)])
        cryptolink.remove_netns(self._names.netns)
        cryptolink.remove_link(self._names.near)
        self._configured = {}

    def _bridged(self) -> bool:
        observed = self._ovsdb.observed()
        port = observed.port(self._names.near)
        return observed.bridge(BRIDGE) is not None and port is not None and port.works and not is_stale(port, self._port())

    def _port(self) -> Port:
        """Return the wanted row of the veth's end, marked with the interface's index."""
        return present((Port(self._names.near, external_ids=MARK),), namespaces.interfaces())[0]

    def _repair(self, part: str, link: CryptoLink, reading: LinkReading) -> None:
        repairs: dict[str, Callable[[CryptoLink, LinkReading], None]] = {
            "netns": lambda link, _: cryptolink.make_netns(link.names.netns),
            "veth": self._make_veth,
            "near": self._set_near,
            "bridge": lambda _link, _reading: self._make_bridge(),
            "holder": self._set_holder,
            "far": self._set_far,
            "wireguard": self._make_wireguard,
            "device": self._set_device,
            "peers": self._change_peers,
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

    def _make_wireguard(self, link: CryptoLink, reading: LinkReading) -> None:
        cryptolink.remove_link(link.names.wireguard)
        wireguard.make(link.names.wireguard)
        cryptolink.move(link.names.wireguard, link.names.netns)

    def _set_device(self, link: CryptoLink, reading: LinkReading) -> None:
        names = link.names
        cryptolink.write_settings(names.wireguard, WIREGUARD_SETTINGS, netns=names.netns)
        wireguard.configure(names.netns, names.wireguard, self._key_file, link.port)
        cryptolink.bring_up(names.wireguard, link.mtu, netns=names.netns)
        cryptolink.set_route(RANGE, names.wireguard, netns=names.netns)

    def _change_peers(self, link: CryptoLink, reading: LinkReading) -> None:
        if reading.device is None:
            return
        changed = [link.peers[key] for key in changed_peers(link, reading.device, self._configured)]
        gone = reading.device.peers.keys() - link.peers.keys()
        wireguard.change_peers(link.names.netns, link.names.wireguard, gone, changed)
        self._configured.update((peer.public_key, peer.endpoint) for peer in changed)

    def _remove_port(self) -> None:
        """Take a veth's end that is to be made anew off the bridge: Open vSwitch 3.1 would keep the old one."""
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


def _nic(values: dict[str, object] | None) -> LinkInterface | None:
    return LinkInterface(**values) if values is not None else None  # type: ignore[arg-type]
