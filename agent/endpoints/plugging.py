"""Plugs endpoints in: creates the veth pair in the container's network namespace, and the port in Open vSwitch; compares both
with what is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface

from agent.cache import Cache
from agent.endpoints import hypervisor
from agent.endpoints.devices import Devices
from agent.endpoints.kept_namespaces import KeptNamespaces
from agent.linux import devices, names, veth
from agent.linux import netns as namespaces
from agent.linux.interface import Desired, IPInterface, differences
from agent.linux.kernel import index_of
from agent.linux.reading import read
from intent.sites import endpoint_mtu
from ovsdb.client import Ovsdb
from ovsdb.rows import port_differences
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.profile import DEFAULT, all_profiles
from specs.paths import paths_mtu
from specs.snapshot import Decoded, Snapshot
from warren.errors import Unavailable, WarrenError

HOST_INTERFACES = ("", "system", "tap")  # types of interfaces of the host, unlike those that Open vSwitch makes
AGAIN = "put it on the bridge again (ovs-vsctl del-port {0}, then add-port, or start the machine again)"


@dataclass(frozen=True, slots=True)
class Plugged:
    """An endpoint that this process has plugged in: its record, and the desired state of its veth pair."""

    record: Endpoint
    desired: Desired


class Plugging:
    """Plugs endpoints of one host into its bridge, and remembers the values that each was plugged in with. Thread-safe for different
    endpoints. Addresses are set while ovs-vswitchd makes the port, because the port takes longer."""

    def __init__(self, host: str, bridge: str, ovsdb: Ovsdb, cache: Cache, kept: KeptNamespaces, taken: Devices) -> None:
        self._host, self._bridge, self._ovsdb, self._cache = host, bridge, ovsdb, cache
        self._kept, self._taken = kept, taken
        self.plugged: dict[str, Plugged] = {}  # by endpoint id
        self._opened: dict[str, int] = {}  # of hypervisors' ports: row in OVSDB -> index of the interface
        self.ahead: dict[str, namespaces.Work[None]] = {}  # by endpoint id: plugged in before their records are active

    def desired(self, endpoint: Endpoint, network: Network) -> Desired:
        """Return the desired state of the endpoint's veth pair now. Raises `Unavailable` without a bridge."""
        snapshot = self._cache.view.snapshot
        return desired(endpoint, network, snapshot, self.checksum_offload_off())

    def begin(self, endpoint: Endpoint, network: Network) -> veth.Plug:
        """Begin to make the veth pair of an endpoint whose record may not be written yet. Raises `Unavailable` without a bridge."""
        return veth.Plug(self.desired(endpoint, network))

    def is_plugged(self, endpoint: Endpoint, network: Network) -> bool:
        """Return whether this process has plugged an endpoint in as desired; remember its record then. Raises `Unavailable` without a bridge."""
        before = self.plugged.get(endpoint.id)
        if before is None or before.desired != self.desired(endpoint, network) or self.row_differences(endpoint):
            return False
        self.plugged[endpoint.id] = Plugged(endpoint, before.desired)
        return True

    def plug(self, endpoint: Endpoint, network: Network, begun: veth.Plug | None = None) -> str:
        """Create, complete or repair veth pair (or take the device) and port; return the interface's name. Continue a pair that was `begun`
        if it is the desired one, otherwise remove it. Raises `WarrenError`."""
        pair = self.desired(endpoint, network)
        if begun is not None and begun.desired != pair:
            self.drop(begun)
            begun = None
        if endpoint.device is not None:
            self._take(endpoint, pair)
            self.add_port(endpoint)
            name = endpoint.device
        else:
            self._kept.ensure(endpoint)
            name = (begun or veth.Plug(pair)).finish(lambda: self.add_port(endpoint))
        self.plugged[endpoint.id] = Plugged(endpoint, pair)
        return name

    def complete_moved(self, endpoint: Endpoint, network: Network) -> None:
        """Complete or repair veth pair and port of an endpoint whose far end an engine moves. Raises `WarrenError`."""
        pair = self.desired(endpoint, network)
        veth.complete_moved(pair)
        self.add_port(endpoint)
        self.plugged[endpoint.id] = Plugged(endpoint, pair)

    def add_port(self, endpoint: Endpoint) -> None:
        """Create or repair the port of an endpoint whose veth pair exists; claim that of a hypervisor. Raises `WarrenError`."""
        if endpoint.iface_id is not None:
            self._ovsdb.claim_port(self._bridge, self.machine_port(endpoint.iface_id).row, endpoint.id)
            return
        self._ovsdb.add_port(self._bridge, endpoint.veth, endpoint.ofport, endpoint.id)

    def machine_port(self, iface_id: str) -> hypervisor.MachinePort:
        """Return the port that a hypervisor has put on the bridge under an id. Raises `Unavailable`, `Conflict`, `Invalid`."""
        return hypervisor.port_of(iface_id, self._ovsdb.hypervisor_ports().values())

    def drop(self, begun: veth.Plug) -> None:
        """Remove a pair that was begun, but is no longer wanted. Raises `Unavailable` if the kernel refuses."""
        with contextlib.suppress(WarrenError):
            begun.finish()
        veth.unplug(begun.desired.veth)

    def unplug(self, name: str, endpoint_id: str | None = None) -> None:
        """Remove the port and the interface of that name, which an endpoint has or had. Raises `WarrenError`."""
        self._ovsdb.del_port(name, endpoint_id)
        self.remove_interface(name, endpoint_id)

    def remove_interface(self, name: str, endpoint_id: str | None = None) -> None:
        """Remove the veth pair of that name, or give back an interface that others have made, unless another endpoint has it by now. Raises
        `WarrenError`."""
        port = self._ovsdb.port(name)
        if names.is_veth(name):
            veth.unplug(name)
        elif port is None or port.endpoint in (None, endpoint_id):
            self._taken.give_back(name)

    def differences(self, endpoint: Endpoint, network: Network) -> list[str]:
        """Read veth pair and port of the endpoint, and return how they differ from what is wanted. Raises `WarrenError`."""
        pair = self.desired(endpoint, network)
        lines = self.row_differences(endpoint)
        if endpoint.device is None and endpoint.iface_id is None:
            return [*lines, *differences(pair, read(pair))]
        return [*lines, *(self._taken.differences(pair) if self._is_set_up(endpoint) else ())]

    def _take(self, endpoint: Endpoint, pair: Desired) -> None:
        try:
            if self._is_set_up(endpoint):
                self._taken.take(pair)
        except WarrenError:
            if endpoint.iface_id is not None:
                self._ovsdb.del_port(endpoint.veth, endpoint.id)
            raise

    def _is_set_up(self, endpoint: Endpoint) -> bool:
        """Whether Warren sets up an interface that others have made: of a hypervisor's, taps and veths alone. Raises `Unavailable` for one that is
        gone, or that Open vSwitch has not opened again since it is back."""
        name = endpoint.device
        if name is None or endpoint.iface_id is None:
            return name is not None
        row, uuid = self._ovsdb.port(name), self._ovsdb.port_uuid(name)
        if row is None or uuid is None or row.type not in HOST_INTERFACES:
            return False
        index = index_of(name)
        if index is None:
            raise Unavailable(f"interface {name}", "it does not exist")
        if self._opened.setdefault(uuid, index) != index:
            raise Unavailable(
                f"interface {name}", f"another one has replaced it, which Open vSwitch has not opened: {AGAIN.format(name)}"
            )
        return devices.read(name) is not None

    def row_differences(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return how the endpoint's port differs from the wanted one, according to the replica of OVSDB; sends no request."""
        if endpoint.iface_id is not None:
            return hypervisor.differences(endpoint, self._ovsdb.hypervisor_ports())
        desired_row = self._ovsdb.desired_port(endpoint.veth, endpoint.ofport, endpoint.id)
        return port_differences(self._ovsdb.port(endpoint.veth), desired_row)

    def checksum_offload_off(self) -> bool:
        """Return whether veths must compute checksums themselves. The userspace datapath does not compute them, so TCP would
        fail although ping works. Raises `Unavailable` without a bridge."""
        bridge = self._ovsdb.observed().bridge(self._bridge)
        if bridge is None or not self._ovsdb.connected:
            reason = f"bridge {self._bridge} does not exist" if self._ovsdb.connected else "ovsdb-server does not answer"
            raise Unavailable(f"Open vSwitch on {self._host}", reason)
        return bridge.datapath_type == "netdev"


def desired(endpoint: Endpoint, network: Network, snapshot: Snapshot, offload_off: bool) -> Desired:
    """Return the desired state of an endpoint's veth pair. Pure.

    Warren sets addresses only where it knows the namespace and no DHCP client sets them; without a namespace, an engine sets them.
    """
    sets_addresses = endpoint.set_addresses and endpoint.netns is not None and not endpoint.spare and not network.answers
    return Desired(
        veth=endpoint.veth,
        netns=endpoint.netns,
        interface=endpoint.interface,
        mac=endpoint.mac_address.lower(),
        mtu=endpoint_mtu(snapshot, network),
        addresses=_addresses(endpoint, network) if sets_addresses else (),
        gateways=_gateways(network) if sets_addresses else (),
        offload_off=offload_off,
        mac_at_far_end=endpoint.iface_id is None,
        enable_ipv6=network.answers and endpoint.ipv6_address is not None,
    )


def with_other_settings(before: Snapshot, after: Snapshot, changes: Iterable[Decoded], endpoints: Iterable[Endpoint]) -> set[str]:
    """Return the endpoints whose interface may have to change, because their network or a host's MTU has changed. Pure."""
    kinds = {(decoded.kind, decoded.id) for decoded in changes if decoded.kind in ("network", "host", "site", "profile")}
    if not kinds:
        return set()
    paths_changed = any(kind != "network" for kind, _ in kinds)
    mtus = [_paths_mtus(snapshot) if paths_changed else {} for snapshot in (before, after)]
    profiles = {name for name in {*mtus[0], *mtus[1]} if mtus[0].get(name) != mtus[1].get(name)}
    networks = {i for kind, i in kinds if kind == "network"} | {
        n.id for n in after.networks.values() if (n.profile or DEFAULT) in profiles
    }
    return {endpoint.id for endpoint in endpoints if endpoint.network_id in networks}


def _paths_mtus(snapshot: Snapshot) -> dict[str, int]:
    """Return the MTU that the smallest path of each tunnel profile leaves."""
    hosts = snapshot.hosts.values()
    return {profile.name: paths_mtu(hosts, snapshot.sites, profile) for profile in all_profiles(snapshot.profiles)}


def veth_spec(endpoint: Endpoint) -> tuple[object, ...]:
    """Return the fields that a veth pair is made from: when one changes, the pair must be made again. A leased address is
    left out, because the DHCP client adds and removes it."""
    ipv4 = endpoint.ipv4_address if endpoint.leased_prefix is None else None
    return endpoint.device, endpoint.netns, endpoint.interface, endpoint.mac_address, ipv4, endpoint.ipv6_address


def _addresses(endpoint: Endpoint, network: Network) -> tuple[IPInterface, ...]:
    pairs = ((endpoint.ipv4_address, network.ip_range), (endpoint.ipv6_address, network.ipv6_range))
    return tuple(ip_interface(f"{address}/{reach.prefixlen}") for address, reach in pairs if address and reach)


def _gateways(network: Network) -> tuple[str, ...]:
    if network.mode == "flat":
        return ()
    return tuple(str(gateway.ip) for gateway in (network.gateway, network.ipv6_gateway) if gateway is not None)
