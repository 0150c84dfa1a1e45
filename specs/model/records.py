"""The records that users declare: hosts, networks, endpoints, ACLs, meters, tenants. Field names are SAND's where SAND has them.

A record is a frozen value; `decode` turns JSON or YAML data into one or raises `Invalid` with the path to the wrong value.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from acl.language import Rule, canonical, parse_rule
from specs.model.coprocessor import Coprocessor
from specs.model.derived import veth_name
from specs.model.dhcp import DhcpFields, check_dhcp
from specs.model.publish import PUBLISHED_LIMIT, Publish
from specs.model.validation import invalid
from warren.errors import MISSING, Invalid

VNI_FIRST, VNI_LAST = 1, 16_777_215
RELATED_BIT = 1 << 23  # a network's second VNI is its own with this bit flipped (intent/views.py)
OFPORT_FIRST, OFPORT_LAST = 1, 65_279  # OFPP_MAX is 0xff00 (OpenFlow 1.4, 7.2.1)
TUNNEL_OFPORT_REQUEST = 65_279

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_IFNAME = re.compile(r"[^\s/:]{1,15}\Z")


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("a name of letters, digits, '.', '_' or '-', at most 63, beginning with a letter or digit")
    return value


def _mac(value: Any) -> str:
    text = str(value).lower().replace("-", ":")
    if not isinstance(value, str) or not _MAC.match(text):
        raise ValueError("a MAC address such as 02:57:0a:00:00:02")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError("a unicast MAC address (the first byte even, not all zero)")
    return text


def _ifname(value: str) -> str:
    if not _IFNAME.match(value) or value in (".", ".."):
        raise ValueError("an interface name of 1 to 15 characters without '/', ':' or white space")
    return value


def _v4_range(value: IPv4Network) -> IPv4Network:
    if value.prefixlen > 30 or value.network_address.is_multicast or value.network_address.is_loopback:
        raise ValueError("a unicast IPv4 range of at least four addresses, such as 10.0.0.0/24")
    return value


def _v6_range(value: IPv6Network) -> IPv6Network:
    if value.prefixlen > 126 or value.network_address.is_multicast or value.network_address.is_link_local:
        raise ValueError("a unicast IPv6 range of at least four addresses, such as fd00:1::/64")
    return value


def _text(value: Any) -> Any:
    """YAML gives 10 or 1.5 for an unquoted word; an address must have been text (an int would be taken as an address)."""
    if isinstance(value, (int, float, bool)):
        raise ValueError("text (quote the value)")
    return value


Name = Annotated[str, AfterValidator(_name)]
Mac = Annotated[str, BeforeValidator(_mac)]
IfName = Annotated[str, AfterValidator(_ifname)]
Vni = Annotated[int, Field(ge=VNI_FIRST, le=VNI_LAST)]
Ofport = Annotated[int, Field(ge=OFPORT_FIRST, le=OFPORT_LAST)]
Mtu = Annotated[int, Field(ge=576, le=65_535)]
Range4 = Annotated[IPv4Network, BeforeValidator(_text), AfterValidator(_v4_range)]
Range6 = Annotated[IPv6Network, BeforeValidator(_text), AfterValidator(_v6_range)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_text)]
Address4 = Annotated[IPv4Address, BeforeValidator(_text)]
Address6 = Annotated[IPv6Address, BeforeValidator(_text)]
Cidr4 = Annotated[IPv4Interface, BeforeValidator(_text)]
Cidr6 = Annotated[IPv6Interface, BeforeValidator(_text)]
Labels = dict[str, str]
METER_ID_FIRST, METER_ID_LAST = 1, 32_768
Vlan = Annotated[int, Field(ge=1, le=4094)]
MeterId = Annotated[int, Field(ge=METER_ID_FIRST, le=METER_ID_LAST)]
MeterRate = Annotated[int, Field(ge=1, le=0xFFFF_FFFF)]
MeterBurst = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
ACLS_LIMIT = 16  # in one list


def _acl_names(value: Any) -> Any:
    """One name or a list; FAUCET's names may be numbers."""
    items = [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value
    if not isinstance(items, list | tuple) or len(items) > ACLS_LIMIT:
        raise ValueError(f"the name of an ACL, or a list of at most {ACLS_LIMIT}")
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items)


def _acl_reference(value: str) -> str:
    network, _, name = value.rpartition(":")
    for part in (network, name) if network else (name,):
        _name(part)
    return value


AclNames = Annotated[tuple[Name, ...], BeforeValidator(_acl_names)]
AclReferences = Annotated[tuple[Annotated[str, AfterValidator(_acl_reference)], ...], BeforeValidator(_acl_names)]


class Record(BaseModel):
    """What all records share: frozen, unknown fields refused, JSON without absent fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> str:
        """The canonical JSON that is stored in etcd."""
        return json.dumps(self.data(), sort_keys=True, separators=(",", ":"))

    def data(self) -> dict[str, Any]:
        """Plain data (for JSON and YAML); fields that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True)


CtLimit = Annotated[int, Field(ge=1, le=3_000_000)]  # what the userspace datapath keeps in all, unless told otherwise


class Item(BaseModel):
    """What a document says of a record: as much of it as the user cares to say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def stated(self) -> dict[str, Any]:
        """The fields that the document has, as plain data; None where it says null. What is inside them is whole, as in a record."""
        whole = self.model_dump(mode="json")
        return {field: whole[field] for field in whole if field in self.model_fields_set}


class NetworkFields(DhcpFields):
    """What is said of a network, in a document, a request and its record alike."""

    id: Name | None = None
    name: Name | None = None
    type: str = "overlay"
    vxlan_vni: Vni | None = None
    ip_range: Range4 | None = None
    gateway: Cidr4 | None = None
    ipv6_range: Range6 | None = None
    ipv6_gateway: Cidr6 | None = None
    mtu: Mtu | None = None
    vlan: Vlan | None = None
    vlan_transparent: bool = False
    mode: Literal["flat", "nat", "routed"] = "flat"
    default_acl: AclNames = ()
    vlan_out_acl: AclNames = ()
    nat_acl: AclNames = ()
    ct_limit: CtLimit | None = None
    preallocate: Annotated[int, Field(ge=0, le=256)] = 0
    labels_required: bool = False
    labels: Labels = {}


class EndpointFields(BaseModel):
    """What is said of an endpoint, in a document, a request and its record alike."""

    mac_address: Mac | None = None
    ipv4_address: Address4 | None = None
    ipv6_address: Address6 | None = None
    ofport: Ofport | None = None
    interface: IfName | None = None
    port: IfName | None = None
    coprocessor: Coprocessor | None = None
    parent: Name | None = None
    vlan: Vlan | None = None
    acls: AclReferences | None = None
    publish: tuple[Publish, ...] = ()
    labels: Labels = {}


class Network(NetworkFields, Record):
    """An isolated layer 2 network. `gateway` and `ipv6_gateway` are addresses with prefix length, inside the range.
    `labels_required` closes endpoints until their labels are known."""

    id: Name
    name: Name
    type: str = Field(default="overlay", pattern="^overlay$")
    vxlan_vni: Vni
    created_at: str | None = None

    @model_validator(mode="after")
    def _gateways_inside(self) -> Network:
        _check_gateway("gateway", self.gateway, "ip_range", self.ip_range)
        _check_gateway("ipv6_gateway", self.ipv6_gateway, "ipv6_range", self.ipv6_range)
        check_dhcp(self, self.ip_range, self.mode)
        if (self.mode != "flat" or self.answers) and self.ip_range is None and self.ipv6_range is None:
            reason = "dhcp" if self.dhcp else f"mode {self.mode}"
            raise Invalid("ip_range", MISSING, f"{reason} needs ip_range or ipv6_range")
        return self


def _check_gateway(
    field: str, gateway: IPv4Interface | IPv6Interface | None, range_field: str, network: IPv4Network | IPv6Network | None
) -> None:
    if gateway is None:
        return
    if network is None:
        raise Invalid(range_field, MISSING, f"{field} needs one")
    if gateway.ip not in network or gateway.ip == network.network_address or gateway.network != network:
        example = f"{network.network_address + 1}/{network.prefixlen}"
        raise Invalid(field, str(gateway), f"a host address of {network} with its prefix length, such as {example}")
    if network.version == 4 and gateway.ip == network.broadcast_address:
        raise Invalid(field, str(gateway), f"not the broadcast address of {network}")


class Endpoint(EndpointFields, Record):
    """A port on a network for one interface of a container: a network namespace on one host. While it is not `labelled` its labels
    are still to come. With `leased_prefix` (a length) its IPv4 address is leased (specs/store/leased_addresses.py)."""

    id: Name
    name: Name | None = None
    network_id: Name
    host: Name
    mac_address: Mac
    ofport: Ofport
    netns: str | None = None
    active: bool = True
    labelled: bool = True
    spare: bool = False
    leased_prefix: Annotated[int, Field(ge=1, le=32)] | None = None
    created_at: str | None = None

    @field_validator("publish")
    @classmethod
    def _published_once(cls, value: tuple[Publish, ...]) -> tuple[Publish, ...]:
        ports = [(p.proto, port) for p in value for port, _ in p.pairs]
        if len(ports) > PUBLISHED_LIMIT:
            raise ValueError(f"at most {PUBLISHED_LIMIT} ports")
        if len(set(ports)) != len(ports):
            raise ValueError("a port of the host once")
        return value

    @model_validator(mode="after")
    def _rides_soundly(self) -> Endpoint:
        """specs/ports.py says what these are."""
        if (self.port or self.parent) and (self.netns or self.interface or (self.port and self.parent)):
            raise ValueError("one of netns (with interface), port and parent")
        if self.parent and (not self.vlan or self.parent == self.id):
            raise ValueError("a parent that is another endpoint, and vlan: the tag on its port")
        if self.vlan and not (self.port or self.parent):
            raise ValueError("vlan only with port or parent: the tag there")
        if self.coprocessor and (not self.port or self.vlan):
            raise ValueError("a coprocessor behind a port, which is its alone: no vlan")
        if self.port and (self.ipv4_address or self.ipv6_address or self.publish):
            raise ValueError("no addresses and nothing published with port: who is behind it is not known")
        return self

    @property
    def veth(self) -> str:
        """The host side interface, also the OVS port: recognised by its prefix, at most 15 characters."""
        return veth_name(self.id)


class Acl(Record):
    """An ordered list of rules; whatever none of them allows is denied."""

    name: Name
    rules: tuple[dict[str, Any], ...]
    description: str = ""
    created_at: str | None = None
    _parsed: tuple[Rule, ...] = PrivateAttr(())
    _stateful: bool = PrivateAttr(False)

    @field_validator("rules", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        return canonical(value, "rules")

    def model_post_init(self, context: Any) -> None:
        """Read the rules; a wrong one is `Invalid`."""
        self._parsed = tuple(parse_rule(rule, f"rules[{i}]") for i, rule in enumerate(self.rules))
        self._stateful = any(rule.stateful for rule in self._parsed)

    @property
    def parsed(self) -> tuple[Rule, ...]:
        """The rules as values."""
        return self._parsed

    @property
    def stateful(self) -> bool:
        """Whether networks that use it must track connections."""
        return self._stateful


class Meter(Record):
    """A rate limit that rules name. `rate` is in kb/s (kb of `burst`), or in packets/s (packets) with `packets`."""

    name: Name
    meter_id: MeterId
    rate: MeterRate
    burst: MeterBurst = 0
    packets: bool = False
    created_at: str | None = None


class Tenant(Record):
    """What holds for all networks of a tenant; so far there is one, `default`."""

    name: Annotated[str, Field(pattern="^default$")]
    acls: AclNames = ()
    created_at: str | None = None


def now() -> str:
    """The time for `created_at`: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


R = TypeVar("R", bound=Record)


def decode(kind: type[R], data: Any, path: str = "") -> R:
    """Validate plain data as a record. Raises `Invalid` with the path to the first wrong value."""
    if not isinstance(data, dict):
        raise Invalid(path or kind.__name__.lower(), data, f"a mapping with the fields of a {kind.__name__.lower()}")
    try:
        record = kind.model_validate(data)
    except ValidationError as error:
        raise invalid(error, path) from None
    except Invalid as error:  # from the language of ACLs, which knows its own paths
        raise error.at(f"{path}.{error.path}".strip(".")) from None
    record.model_fields_set.clear()  # nobody asks a record for them, and 10 000 sets of names are 5 MB
    return record


def decode_json(kind: type[R], text: str, path: str = "") -> R:
    """Like `decode`, from the JSON text that etcd holds."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Invalid(path, text, f"JSON ({error})") from None
    return decode(kind, data, path)
