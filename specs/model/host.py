"""Hosts, and what an administrator may say of the bridge that the controller makes there."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from specs.model.base import AclNames, Address, Item, Labels, Mac, Mtu, Name, Record

_TARGET = re.compile(r"(tcp|ssl):(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:\d{1,5})?\Z")


def _datapath_id(value: Any) -> str:
    """64 bits, in hexadecimal; a number, as YAML reads 0x1, is one, too."""
    text = f"{value:x}" if isinstance(value, int) and not isinstance(value, bool) else str(value).lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,16}", text) or not int(text, 16):
        raise ValueError("a datapath id: 1 to 16 hexadecimal digits, not all zero")
    return text.zfill(16)


def _target(value: str) -> str:
    if not _TARGET.match(value):
        raise ValueError("a controller such as tcp:192.0.2.1:6653 or ssl:[2001:db8::1]:6653")
    return value


class BridgeSettings(BaseModel):
    """What differs from what the controller would choose: the datapath id and MAC of the bridge, its datapath (the kernel's or userspace),
    and further OpenFlow controllers, which may add flows of their own and change none of Warren's by mistake (cookies)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datapath_id: Annotated[str, BeforeValidator(_datapath_id)] | None = None
    mac: Mac | None = None
    datapath_type: Literal["system", "netdev"] | None = None
    controllers: tuple[Annotated[str, AfterValidator(_target)], ...] = ()


class HostFields(BaseModel):
    """What the administrator says of a host; all else its agent knows."""

    acls: AclNames = ()
    labels: Labels = {}
    bridge: BridgeSettings | None = None


class Host(HostFields, Record):
    """A machine with an Open vSwitch; `vtep` is its address on the underlay, `underlay_mtu` is in bytes."""

    name: Name
    vtep: Address
    api: str | None = None
    underlay_mtu: Mtu = 1500
    created_at: str | None = None


class HostItem(HostFields, Item):
    """A host. Agents register their own hosts, so documents seldom need any."""

    name: Name
    vtep: Address
    api: str | None = None
    underlay_mtu: Mtu = 1500
