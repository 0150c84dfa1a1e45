"""Hosts, and the settings of their bridges. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from specs.model.base import AclNames, Address, Item, Labels, Mac, Mtu, Name, NestedValue, Record
from specs.model.site import OutsideAddress
from specs.model.validation import NEEDED

_TARGET = re.compile(r"(tcp|ssl):(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:\d{1,5})?\Z")


def _datapath_id(value: Any) -> str:
    """64 bits in hexadecimal. A number is accepted too: YAML reads 0x1 as one."""
    text = f"{value:x}" if isinstance(value, int) and not isinstance(value, bool) else str(value).lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,16}", text) or not int(text, 16):
        raise ValueError("a datapath id: 1 to 16 hexadecimal digits, not all zero")
    return text.zfill(16)


def _target(value: str) -> str:
    if not _TARGET.match(value):
        raise ValueError("a controller such as tcp:192.0.2.1:6653 or ssl:[2001:db8::1]:6653")
    return value


class BridgeSettings(NestedValue):
    """Overrides of the bridge that the controller creates: its datapath id, MAC and datapath (kernel or userspace), and further OpenFlow
    controllers. These may add their own flows; Warren recognises its flows by their cookies."""

    datapath_id: Annotated[str, BeforeValidator(_datapath_id)] | None = None
    mac: Mac | None = None
    datapath_type: Literal["system", "netdev"] | None = None
    controllers: tuple[Annotated[str, AfterValidator(_target)], ...] = ()


class HostFields(BaseModel):
    """The fields of a host that an administrator sets; its agent fills in the others. The agent sets `site` and `outside`, too, if its settings
    have them, or if they come from a cloud's metadata (`underlay`)."""

    acls: AclNames = ()
    labels: Labels = {}
    bridge: BridgeSettings | None = None
    site: Name | None = None
    outside: OutsideAddress | None = None
    underlay: Literal["cloud"] | None = None


class Host(HostFields, Record):
    """A machine with an Open vSwitch; `vtep` is its address on the underlay (inside its site), `underlay_mtu` is in bytes, `machine` is its
    machine id. For hosts of other sites: `tunnel_address` is its VTEP inside encrypted tunnels, allocated with its first outside address;
    `outside_mtu` is in bytes, `public_key` is WireGuard's."""

    name: Name
    vtep: Address
    api: str | None = None
    underlay_mtu: Mtu = 1500
    machine: str | None = None
    tunnel_address: IPv4Address | None = None
    outside_mtu: Mtu | None = None
    public_key: str | None = None
    created_at: str | None = None


OF_CLOUD = ("vtep", "site", "outside", "api", "underlay_mtu")  # written by the agent of a host with `underlay: cloud`


class HostItem(HostFields, Item):
    """A host. Agents register their own hosts, so documents seldom need any. With `underlay: cloud` it needs no `vtep`."""

    name: Name
    vtep: Annotated[Address | None, Field(validate_default=True)] = None
    api: Annotated[str, Field(min_length=1)] | None = None
    underlay_mtu: Mtu = 1500

    @field_validator("vtep")
    @classmethod
    def _given_or_found(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("underlay") is None:
            raise PydanticCustomError(
                NEEDED, "an address on the underlay, such as 192.0.2.1; in a cloud, underlay: cloud instead"
            )
        return value
