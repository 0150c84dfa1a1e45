"""Endpoints. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from pipeline.protocols import IpNetwork
from pipeline.tables import OFPORT_FIRST, OFPORT_LAST
from specs.model.admin import HOST_NAMESPACE
from specs.model.allowed import AllowedEntry, check_allowed
from specs.model.base import AclReferences, FilePath, Flag, IfName, Item, Labels, Mac, Name, Record, Vlan, Whole, require_text
from specs.model.coprocessor import Coprocessor
from specs.model.derived import default_mac, is_link_name, veth_name
from specs.model.iface_id import IfaceId
from specs.model.names import NetworkName
from specs.model.publish import PUBLISHED_LIMIT, Publish

ADOPTED_BY = "adopted.by"  # label of an endpoint that an adoption rule made: the rule's name
ADOPTED = "ovs.lent"  # label of an endpoint behind a port that somebody else added to the bridge
Ofport = Annotated[Whole, Field(ge=OFPORT_FIRST, le=OFPORT_LAST)]
CNI_CONTAINER = "cni.container"  # the label of endpoints that a CNI runtime made
SANDBOX = (
    "docker.sandbox"  # the label of endpoints of Docker: the path of the namespace into which the engine moves the interface
)
MACHINE_INTERFACE = "host0"  # the name that systemd-nspawn gives to a container's interface
_KEPT = re.compile(r"(/(var/)?run/netns/)?(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,62})\Z")


def kept_name(netns: str | None) -> str | None:
    """The name of a namespace below /run/netns, from its path or from that name; None for any other path."""
    match = _KEPT.match(netns or "")
    return match["name"] if match else None


Address4 = Annotated[IPv4Address, BeforeValidator(require_text)]
Address6 = Annotated[IPv6Address, BeforeValidator(require_text)]


ALIASES_LIMIT = 64


def _listed(value: Any) -> Any:
    """One name or a list."""
    return (value,) if isinstance(value, str) else value


def _once(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value))


Aliases = Annotated[tuple[Name, ...], BeforeValidator(_listed), AfterValidator(_once), Field(max_length=ALIASES_LIMIT)]


class EndpointFields(BaseModel):
    """The fields that a document, a request and the record of an endpoint share."""

    mac_address: Mac | None = None
    ipv4_address: Address4 | None = None
    ipv6_address: Address6 | None = None
    ofport: Ofport | None = None
    interface: IfName | None = None
    port: IfName | None = None
    device: IfName | None = None
    iface_id: IfaceId | None = None
    coprocessor: Coprocessor | None = None
    parent: Name | None = None
    vlan: Vlan | None = None
    acls: AclReferences | None = None
    publish: tuple[Publish, ...] = ()
    allowed: Annotated[tuple[AllowedEntry, ...], AfterValidator(check_allowed)] = ()
    aliases: Aliases = ()
    labels: Labels = {}
    machine: Name | None = None
    keep_netns: Flag = False


class Endpoint(EndpointFields, Record):
    """A port on a network for one interface of a container: a network namespace on one host. Until it is `labelled` its labels are not
    known. `spare` marks a preallocated one. Without `set_addresses` somebody else puts the addresses on the interface. `machine` is the name
    under which systemd-machined knows the container; the agent fills in its namespace. With `keep_netns` Warren makes the namespace and keeps it. `device` names an interface
    of the host that somebody else has made for it, such as a virtual machine's tap: the machine at its other end is the endpoint. With `iface_id` a hypervisor puts that
    interface on the bridge itself, under this id; the agent fills in `device`. With `leased_prefix` (a length) an external DHCP server leased its IPv4 address
    (specs/store/leased_addresses.py)."""

    id: Name
    name: Name | None = None
    network_id: Name
    host: Name
    mac_address: Mac
    ofport: Ofport
    netns: str | None = None
    active: Flag = True
    labelled: Flag = True
    spare: Flag = False
    set_addresses: Flag = True
    leased_prefix: Annotated[Whole, Field(ge=1, le=32)] | None = None
    created_at: str | None = None

    @field_validator("publish")
    @classmethod
    def _published_once(cls, value: tuple[Publish, ...]) -> tuple[Publish, ...]:
        ports = [(p.proto, port) for p in value for port, _ in p.pairs]
        if len(ports) > PUBLISHED_LIMIT:
            raise ValueError(f"at most {PUBLISHED_LIMIT} ports")
        if len(set(ports)) != len(ports):
            raise ValueError("each port of the host once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _interface_of_a_machine(cls, data: Any) -> Any:
        machines = isinstance(data, dict) and (data.get("machine") or data.get("keep_netns")) and not data.get("interface")
        return {**data, "interface": MACHINE_INTERFACE} if machines else data

    @model_validator(mode="after")
    def _namespace_is_consistent(self) -> Endpoint:
        if self.machine and (self.port or self.parent or self.keep_netns):
            raise ValueError("a machine has a namespace of its own: neither port, parent nor keep_netns")
        if self.keep_netns and kept_name(self.netns) is None:
            raise ValueError("keep_netns with a namespace below /run/netns, such as netns: /run/netns/web1")
        return self

    @model_validator(mode="after")
    def _device_is_consistent(self) -> Endpoint:
        others = self.netns or self.interface or self.port or self.parent or self.machine or self.keep_netns
        if (self.device or self.iface_id) and others:
            raise ValueError("one of device, iface_id, netns (with interface), machine, port and parent")
        if self.device and is_link_name(self.device):
            raise ValueError(f"device: an interface that others make; {self.device} is Warren's")
        return self

    @model_validator(mode="after")
    def _subport_is_consistent(self) -> Endpoint:
        """specs/ports.py explains subports."""
        if (self.port or self.parent) and (self.netns or self.interface or (self.port and self.parent)):
            raise ValueError("one of netns (with interface), port and parent")
        if self.parent and (not self.vlan or self.parent == self.id):
            raise ValueError("a parent that is another endpoint, and vlan: the tag on its port")
        if self.vlan and not (self.port or self.parent):
            raise ValueError("vlan only with port or parent: the tag there")
        if self.coprocessor and (not self.port or self.vlan):
            raise ValueError("a coprocessor only with port and without vlan: the interface is its alone")
        return self

    @model_validator(mode="after")
    def _nothing_is_known_behind_an_interface(self) -> Endpoint:
        if self.port and (self.ipv4_address or self.ipv6_address or self.publish or self.allowed):
            expected = "no addresses (allowed ones neither) and nothing published with port"
            raise ValueError(f"{expected}: the machines behind an interface are not known")
        return self

    def data(self) -> dict[str, Any]:
        """As JSON data. Fields that came later are left out where they say nothing: agents of an earlier version refuse fields that they do not know."""
        data = super().data()
        left_out = {name for name in ("allowed", "aliases", "keep_netns", "device", "iface_id") if not getattr(self, name)}
        return {name: value for name, value in data.items() if name not in left_out}

    @property
    def is_hosts_own(self) -> bool:
        """Whether it is a host's own endpoint on the admin overlay, which its agent makes."""
        return self.netns == HOST_NAMESPACE

    @property
    def declared(self) -> bool:
        """Whether a user has declared it: agents make preallocated ones, those of hosts, and those of adoption rules."""
        return ADOPTED_BY not in self.labels and not self.spare and not self.is_hosts_own

    @property
    def used(self) -> bool:
        """Whether a machine has it: it is active, and no hypervisor has still to put its interface on the bridge."""
        return self.active and (self.iface_id is None or self.device is not None)

    @property
    def has_default_mac(self) -> bool:
        """Whether nobody has chosen its MAC."""
        chosen = default_mac(self.id, self.ipv4_address, self.ipv6_address), default_mac(self.id, None, None)
        return self.mac_address in chosen

    @property
    def macs(self) -> tuple[str, ...]:
        """All MACs that it may send with, its own first."""
        return tuple(dict.fromkeys((self.mac_address, *(entry.mac for entry in self.allowed if entry.mac))))

    @property
    def prefixes(self) -> list[IpNetwork]:
        """All addresses that it may have: its own, and those that it is allowed."""
        own = [ip_network(address) for address in (self.ipv4_address, self.ipv6_address) if address is not None]
        return [*own, *(entry.address for entry in self.allowed)]

    @property
    def namespace(self) -> str | None:
        """The path of the namespace that its interface is in, also when a container engine moves it there."""
        return self.netns or self.labels.get(SANDBOX)

    @property
    def kept_namespace(self) -> str | None:
        """The name below /run/netns of the namespace that Warren keeps for it, if any."""
        return kept_name(self.netns) if self.keep_netns and self.active else None

    @property
    def veth(self) -> str:
        """The name of the interface on the host, which is also that of the OVS port: a known prefix, at most 15 characters; or the device's."""
        return self.device or veth_name(self.id)


class _Placement(Item):
    id: Name | None = None
    name: Name | None = None
    network: NetworkName
    host: Name
    netns: FilePath | None = None
    active: Flag = True


class EndpointItem(EndpointFields, _Placement):
    """An endpoint; `network` is a name or an id. Addresses, MAC and OpenFlow port are allocated unless the document states them."""
