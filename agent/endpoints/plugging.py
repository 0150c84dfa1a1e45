"""Plugs endpoints in: creates the veth pair in the container's network namespace, and the port in Open vSwitch."""

from __future__ import annotations

from agent.cache import Cache
from agent.linux import veth
from intent.views import endpoint_mtu
from ovsdb.client import Ovsdb
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.errors import Unavailable


class Plugging:
    """Plugs endpoints of one host into its bridge, and remembers the record that each was plugged in from. Thread-safe for
    different endpoints."""

    def __init__(self, host: str, bridge: str, ovsdb: Ovsdb, cache: Cache) -> None:
        self._host, self._bridge, self._ovsdb, self._cache = host, bridge, ovsdb, cache
        self.plugged: dict[str, Endpoint] = {}  # endpoint id -> the record that this process plugged in or adopted

    def plug(self, endpoint: Endpoint, network: Network, set_addresses: bool = True) -> str:
        """Create or complete veth pair and port; return the interface's name in the container. Raises `WarrenError`."""
        set_addresses = set_addresses and not network.answers  # otherwise a DHCP client in the container sets them
        name = veth.plug(
            veth=endpoint.veth,
            netns=endpoint.netns,
            interface=endpoint.interface,
            mac=endpoint.mac_address,
            addresses=_addresses(endpoint, network) if set_addresses else (),
            mtu=endpoint_mtu(list(self._cache.view.snapshot.hosts.values()), network),
            offload_off=self.checksum_offload_off(),
            enable_ipv6=network.answers and endpoint.ipv6_address is not None,
            gateways=_gateways(network) if set_addresses else (),
        )
        self.add_port(endpoint)
        self.plugged[endpoint.id] = endpoint
        return name

    def add_port(self, endpoint: Endpoint) -> None:
        """Create the port of an endpoint whose veth pair exists. Raises `WarrenError`."""
        self._ovsdb.add_port(self._bridge, endpoint.veth, endpoint.ofport, endpoint.id)

    def unplug(self, name: str) -> None:
        """Remove the port and the veth pair of that name. Raises `WarrenError`."""
        self._ovsdb.del_port(name)
        veth.unplug(name)

    def checksum_offload_off(self) -> bool:
        """Return whether veths must compute checksums themselves. The userspace datapath does not compute them, so TCP would
        fail although ping works. Raises `Unavailable` without a bridge."""
        bridge = self._ovsdb.observed().bridge(self._bridge)
        if bridge is None or not self._ovsdb.connected:
            reason = f"bridge {self._bridge} does not exist" if self._ovsdb.connected else "ovsdb-server does not answer"
            raise Unavailable(f"Open vSwitch on {self._host}", reason)
        return bridge.datapath_type == "netdev"


def veth_spec(endpoint: Endpoint) -> tuple[object, ...]:
    """Return the fields that a veth pair is made from: when one changes, the pair must be made again. A leased address is
    left out, because the DHCP client adds and removes it."""
    ipv4 = endpoint.ipv4_address if endpoint.leased_prefix is None else None
    return endpoint.netns, endpoint.interface, endpoint.mac_address, ipv4, endpoint.ipv6_address


def _addresses(endpoint: Endpoint, network: Network) -> list[str]:
    pairs = ((endpoint.ipv4_address, network.ip_range), (endpoint.ipv6_address, network.ipv6_range))
    return [f"{address}/{network_range.prefixlen}" for address, network_range in pairs if address and network_range]


def _gateways(network: Network) -> list[str]:
    if network.mode == "flat":
        return []
    return [str(gateway.ip) for gateway in (network.gateway, network.ipv6_gateway) if gateway is not None]
