"""The controller's rows in OVSDB as values: the bridge with its tunnel port, and the mark of an owner. Pure; `ovsdb/operations.py` compares
them, `ovsdb/client.py` reads and writes them.

New kinds of rows must carry `OWNER`, or a restarted process does not recognise them as Warren's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from mirror.sessions import collector_port
from pipeline.tables import RESOLVER_PORT, TUNNEL_OFPORT, UPLINK_OFPORT
from pipeline.tunnels import VXLAN_UDP_PORT, tunnel_port
from specs.model.host import BridgeSettings, Host
from specs.model.iface_id import canonical
from specs.model.mirror import ERSPAN_SESSIONS, Mirror
from specs.model.profile import BUILT_IN, Profile

OWNER = ("owner", "warren")
ENDPOINT_KEY = "warren-endpoint"  # external_ids of an interface that is an endpoint's: the endpoint's id
IFACE_KEY, MAC_KEY, STATUS_KEY = "iface-id", "attached-mac", "iface-status"  # external_ids that hypervisors write
NETWORK_KEY = "warren-network"  # external_ids of an interface that somebody else put on the bridge, for a network
ENCRYPTED_KEY = (
    "warren-encrypted"  # external_ids of the database: the boot, and the hosts to which the agent holds encrypted tunnels
)
IFINDEX_KEY = "warren-ifindex"  # the interface's number when it was put on the bridge: tells one made anew under the same name
BRIDGE = "br-warren"
UPLINK_PORT = "warren-gw"  # the host's end is a network interface of that name
# The columns of a Controller row that are Warren's. Open vSwitch's own pause of 8 s would be the outage after a restart of the controller;
# without a limit, which the ports share fairly, one port's flood is all that the controller sees.
CONTROLLER: Mapping[str, str | int] = MappingProxyType(
    {"connection_mode": "out-of-band", "max_backoff": 1000, "controller_rate_limit": 1000, "controller_burst_limit": 250}
)  # max_backoff in ms, packets per second, packets waiting
OPENFLOW = "OpenFlow14"  # the version that the controller speaks
AS_CHOSEN = BridgeSettings()

StringMap = Mapping[str, str]


def frozen(values: StringMap) -> StringMap:
    return MappingProxyType(dict(values))


@dataclass(frozen=True, slots=True)
class Port:
    """A port with one interface of the same name. `external_ids` are those of both Port and Interface."""

    name: str
    type: str = ""
    options: StringMap = field(default_factory=dict)
    ofport_request: int | None = None
    external_ids: StringMap = field(default_factory=lambda: dict([OWNER]))
    mtu_request: int | None = None  # set, it would make ovs-vswitchd change the MTU that the agent sets


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge. `external_ids` and `other_config` hold only the keys that Warren sets; other keys are the administrator's."""

    name: str
    datapath_type: str
    controllers: tuple[str, ...]  # targets, sorted
    fail_mode: str = "secure"
    external_ids: StringMap = field(default_factory=lambda: dict([OWNER]))
    other_config: StringMap = field(default_factory=dict)
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedPort:
    """A port as observed. `ofport` is None until ovs-vswitchd has answered and -1 when it failed; then `error` says why."""

    name: str
    type: str = ""
    options: StringMap = field(default_factory=dict)
    ofport: int | None = None
    ofport_request: int | None = None
    external_ids: StringMap = field(default_factory=dict)
    error: str | None = None
    mtu_request: int | None = None

    @property
    def ours(self) -> bool:
        """Whether Warren made it: the controller, or the agent when `endpoint` is set."""
        return self.external_ids.get(OWNER[0]) == OWNER[1]

    @property
    def endpoint(self) -> str | None:
        """The id of the endpoint that the agent made the port for, or claimed a hypervisor's port for."""
        return self.external_ids.get(ENDPOINT_KEY) if self.ours or self.iface_id is not None else None

    @property
    def iface_id(self) -> str | None:
        """The id under which a hypervisor has put an interface on a bridge for a virtual machine (ovs-vswitchd.conf.db(5)): libvirt, Neutron and
        others write it. None for an `inactive` one, beside which the machine has another."""
        if self.ours or self.lent is not None or self.external_ids.get(STATUS_KEY, "active") != "active":
            return None
        written = self.external_ids.get(IFACE_KEY)
        return canonical(written) if written else None

    @property
    def lent(self) -> str | None:
        """The network that the owner of a foreign port meant it for, if any."""
        return None if self.ours else self.external_ids.get(NETWORK_KEY)

    @property
    def works(self) -> bool:
        """Whether ovs-vswitchd has the port in its datapath."""
        return self.ofport is not None and self.ofport >= 0 and self.error is None


@dataclass(frozen=True, slots=True)
class ObservedBridge:
    """A bridge as observed. `local` is its port of the same name, which shows whether the datapath works."""

    name: str
    datapath_type: str = ""
    fail_mode: str | None = None
    controllers: tuple[str, ...] = ()
    controllers_as_ours: bool = True  # their rows have the columns of CONTROLLER
    external_ids: StringMap = field(default_factory=dict)
    other_config: StringMap = field(default_factory=dict)
    local: ObservedPort | None = None
    protocols: tuple[str, ...] = ()
    stp_enable: bool = False
    rstp_enable: bool = False

    @property
    def ours(self) -> bool:
        """Whether Warren made it."""
        return self.external_ids.get(OWNER[0]) == OWNER[1]

    @property
    def works(self) -> bool:
        """Whether ovs-vswitchd could make its datapath."""
        return self.local is not None and self.local.works


@dataclass(frozen=True, slots=True)
class Observed:
    """All bridges and all ports (except endpoints', unless asked for), by name."""

    bridges: Mapping[str, ObservedBridge] = field(default_factory=dict)
    ports: Mapping[str, ObservedPort] = field(default_factory=dict)

    def bridge(self, name: str) -> ObservedBridge | None:
        """Return the bridge with a name."""
        return self.bridges.get(name)

    def port(self, name: str) -> ObservedPort | None:
        """Return the port with a name."""
        return self.ports.get(name)


# ---- wanted rows -----------------------------------------------------------------------------------------------------


def vxlan_port(profile: Profile = BUILT_IN, host: Host | None = None) -> Port:
    """Return the one VXLAN port of a tunnel profile for all peers. Flows set the remote address and the VNI. The host that has the profile's
    `listen` takes packets to it alone; encrypted ones come to another address."""
    options = {"remote_ip": "flow", "key": "flow", "dst_port": str(profile.port)}
    if host is not None and host.vtep == profile.listen and profile.encryption == "never":
        options["local_ip"] = str(profile.listen)
    ofport = UPLINK_OFPORT - profile.number if profile.number else TUNNEL_OFPORT
    return Port(tunnel_port(profile.number), "vxlan", frozen(options), ofport, frozen(dict([OWNER])))


def uplink_port() -> Port:
    """Return the port between networks with a gateway and the host. The agent assigns the interface its addresses."""
    return Port(UPLINK_PORT, "internal", frozen({}), UPLINK_OFPORT, frozen(dict([OWNER])))


def resolver_port() -> Port:
    """Return the port to this host's resolver, which makes the interface itself (agent/names/)."""
    return Port(RESOLVER_PORT)


def mirror_ports(mirrors: Iterable[Mirror], host: str) -> tuple[Port, ...]:
    """Return the ports through which a host's copies leave: interfaces of its own, and one for each collector."""
    ports: dict[str, Port] = {}
    for mirror in mirrors:
        to = mirror.to
        if not mirror.active:
            continue
        if to.collector is not None:
            kind, address = to.collector
            name, options = collector_port(mirror), {"remote_ip": str(address)}
            if kind == "erspan":  # ovs-vswitchd.conf.db(5), "ERSPAN"; index and hardware id mean nothing here
                options |= {"key": str(to.key or mirror.vni % ERSPAN_SESSIONS + 1), "erspan_ver": str(to.version or 1)}
                options |= {"erspan_idx": "0x1"} if options["erspan_ver"] == "1" else {"erspan_dir": "0", "erspan_hwid": "0x0"}
            elif kind == "vxlan":
                options |= {"key": str(to.key or mirror.vni), "dst_port": str(VXLAN_UDP_PORT)}
            ports[name] = Port(name, kind, frozen(options))
        elif to.interface is not None and to.host == host:
            ports[to.interface] = Port(to.interface)
    return tuple(ports[name] for name in sorted(ports))


def interface_ports(ofports: Mapping[str, int]) -> tuple[Port, ...]:
    """Return the ports for interfaces of the host that endpoints are behind, with the OpenFlow ports to request."""
    return tuple(Port(name, ofport_request=ofport) for name, ofport in sorted(ofports.items()))


def present(ports: Iterable[Port], ifindexes: Mapping[str, int]) -> tuple[Port, ...]:
    """Return the ports whose interface exists on the host (`ifindexes`, by name), marked with its index, and those that OVS
    creates itself."""
    existing = (port for port in ports if port.type or port.name in ifindexes)
    return tuple(
        replace(port, external_ids=frozen({**port.external_ids, **_numbered(ifindexes.get(port.name))})) for port in existing
    )


def _numbered(ifindex: int | None) -> dict[str, str]:
    return {} if ifindex is None else {IFINDEX_KEY: str(ifindex)}


def encrypted_text(hosts: Iterable[str], boot: str) -> str:
    """Return the value of ENCRYPTED_KEY: it holds for one boot of the machine, because a new one has no tunnels."""
    return " ".join((boot, *sorted(hosts)))


def encrypted_hosts(text: str | None, boot: str) -> frozenset[str]:
    """Return the hosts in a value of ENCRYPTED_KEY, if it is of this boot."""
    written_at, *hosts = (text or "").split(" ")
    return frozenset(hosts) if written_at == boot else frozenset()


def endpoint_port(veth: str, ofport: int, endpoint_id: str, ifindex: int | None = None) -> Port:
    """Return the port of an endpoint. The agent owns this row, not the controller."""
    return Port(veth, "", frozen({}), ofport, frozen({**dict([OWNER]), ENDPOINT_KEY: endpoint_id, **_numbered(ifindex)}))


def is_stale(observed: ObservedPort, desired: Port) -> bool:
    """Whether a port must be removed and added again: it failed, another number or type was set, or its interface was
    replaced.

    ovs-vswitchd (3.1, userspace) does not notice a replaced interface: the port keeps its number and forwards nothing.
    """
    failed = bool(observed.error) or observed.ofport == -1
    index = observed.external_ids.get(IFINDEX_KEY)
    another = index is not None and index != desired.external_ids.get(IFINDEX_KEY)
    return failed or another or (observed.type, observed.ofport_request) != (desired.type, desired.ofport_request)


def port_differences(observed: ObservedPort | None, desired: Port) -> tuple[str, ...]:
    """Return how the port of an endpoint differs from the wanted one, a phrase each."""
    if observed is None:
        return (f"port {desired.name} is not in OVSDB",)
    differences = [f"port {observed.name} failed: {observed.error}"] if observed.error else []
    for column in ("type", "ofport_request", "mtu_request"):
        is_set, right = getattr(observed, column), getattr(desired, column)
        if is_set != right:
            differences.append(f"port {observed.name} has {column} {is_set!r} instead of {right!r}")
    for key, value in sorted(missing(desired.external_ids, observed.external_ids).items()):
        differences.append(f"port {observed.name} lacks external_ids:{key}={value}")
    return tuple(differences)


def integration_bridge(
    name: str, controller: str, datapath_type: str, host: str, more: tuple[Port, ...] = (), settings: BridgeSettings = AS_CHOSEN
) -> Bridge:
    """Return the integration bridge of a host. Its datapath id and MAC are fixed. Otherwise OVS derives both from the lowest
    MAC among its ports, and a new port could break the OpenFlow connection."""
    digest = hashlib.sha256(f"{host}/{name}".encode()).hexdigest()
    hwaddr = settings.mac or "02:5a:" + ":".join(digest[i : i + 2] for i in range(0, 8, 2))
    other = {"datapath-id": settings.datapath_id or digest[:16], "hwaddr": hwaddr, "disable-in-band": "true"}
    return Bridge(
        name,
        datapath_type,
        tuple(sorted({controller, *settings.controllers})),
        external_ids=frozen(dict([OWNER])),
        other_config=frozen(other),
        ports=tuple({port.name: port for port in (vxlan_port(), uplink_port(), *more)}.values()),
    )


def missing(desired: StringMap, observed: StringMap) -> dict[str, str]:
    """Return the keys of a map that are absent or have another value, with the right values."""
    return {key: value for key, value in desired.items() if observed.get(key) != value}
