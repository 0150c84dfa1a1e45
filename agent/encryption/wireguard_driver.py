"""Carries out the differences of WireGuard's part: its interface and its peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from agent.encryption.link import TUNNEL_SETTINGS, interface_of_values
from agent.encryption.tunnels import PairTunnel, TunnelPlan, converge
from agent.encryption.wireguard import (
    TABLE,
    WireguardLink,
    WireguardReading,
    changed_peers,
    differences,
    tunnels,
    wanted_wireguard,
)
from agent.linux import cryptolink, named_namespaces, wireguard
from specs.model.derived import LinkNames


class WireguardDriver:
    """Reads and repairs WireGuard's part of one host (`TunnelDriver`)."""

    def __init__(self, names: LinkNames, key_file: Path) -> None:
        self._names, self._key_file = names, key_file
        self._configured: dict[str, str] = {}  # endpoints that were set last, by public key

    def differences(self, plan: TunnelPlan) -> list[str]:
        """Return how this host differs from the plan. Raises `WarrenError`."""
        return [text for _, text in differences(self._wanted(plan), self._read(), self._configured)]

    def reconcile(self, plan: TunnelPlan, silent: Collection[str]) -> Mapping[str, PairTunnel]:
        """Repair what differs. For silent peers nothing is done: WireGuard itself tries them again. Raises `WarrenError`."""
        link = self._wanted(plan)
        reading = converge(self._read, lambda reading: differences(link, reading, self._configured), partial(self._repair, link))
        self._configured = {key: self._configured.get(key, peer.endpoint) for key, peer in link.peers.items()}
        return tunnels(plan, reading.device, time.time())

    def remove(self) -> None:
        """Remove the interface, if it exists. Raises `WarrenError`."""
        if self._read().interface is not None:
            cryptolink.remove_link(self._names.wireguard, netns=self._names.netns)
        self._configured = {}

    def _wanted(self, plan: TunnelPlan) -> WireguardLink:
        return wanted_wireguard(plan, wireguard.key_of(self._key_file))

    def _read(self) -> WireguardReading:
        netns, name = self._names.netns, self._names.wireguard
        if not named_namespaces.is_ours(netns):
            return WireguardReading()
        interface = interface_of_values(cryptolink.read(name, TUNNEL_SETTINGS, netns))
        return WireguardReading(
            interface=interface,
            device=wireguard.device(netns, name) if interface is not None else None,
            ports=cryptolink.port_rules(netns, TABLE),
        )

    def _repair(self, link: WireguardLink, part: str, reading: WireguardReading) -> None:
        repairs: dict[str, Callable[[WireguardLink, WireguardReading], None]] = {
            "wireguard": self._make,
            "device": self._set_device,
            "ports": self._change_rules,
            "peers": self._change_peers,
        }
        repairs[part](link, reading)

    def _make(self, link: WireguardLink, reading: WireguardReading) -> None:
        cryptolink.remove_link(link.interface)
        wireguard.make(link.interface)
        cryptolink.move(link.interface, link.netns)

    def _set_device(self, link: WireguardLink, reading: WireguardReading) -> None:
        cryptolink.write_settings(link.interface, TUNNEL_SETTINGS, netns=link.netns)
        wireguard.configure(link.netns, link.interface, self._key_file, link.port)
        cryptolink.bring_up(link.interface, link.mtu, netns=link.netns)
        for route in link.routes:
            cryptolink.set_route(route, link.interface, netns=link.netns)

    def _change_rules(self, link: WireguardLink, reading: WireguardReading) -> None:
        for port in sorted(reading.ports - link.ports):
            cryptolink.change_port_rule("del", link.far, port, TABLE, netns=link.netns)
        for port in sorted(link.ports - reading.ports):
            cryptolink.change_port_rule("add", link.far, port, TABLE, netns=link.netns)

    def _change_peers(self, link: WireguardLink, reading: WireguardReading) -> None:
        if reading.device is None:
            return
        changed = [link.peers[key] for key in changed_peers(link, reading.device, self._configured)]
        gone = reading.device.peers.keys() - link.peers.keys()
        wireguard.change_peers(link.netns, link.interface, gone, changed)
        self._configured.update((peer.public_key, peer.endpoint) for peer in changed)
