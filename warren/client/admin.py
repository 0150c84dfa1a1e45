"""The admin overlay: the network of the hosts themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warren.client.calls import Operation, delete, get, post, stated
from warren.client.results import Result


@dataclass(frozen=True, kw_only=True)
class AdminHost(Result):
    """A host on the admin overlay. `state` is up, closed, waiting, or missing: it has no endpoint yet; `reason` says why it is not up."""

    host: str = ""
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    state: str = ""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class AdminOverlay(Result):
    """The admin overlay. `addresses` are those that hosts must have, `hosts` has what they have; `mtu` is in bytes."""

    id: str = ""
    name: str = ""
    ip_range: str | None = None
    ipv6_range: str | None = None
    vxlan_vni: int = 0
    vlan: int | None = None
    mtu: int = 0
    profile: str = "default"
    interface: str = ""
    default_acl: tuple[str, ...] = ()
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    hosts: tuple[AdminHost, ...] = field(default=(), metadata={"item": AdminHost})


def admin_overlay() -> Operation[AdminOverlay]:
    """The admin overlay, with the address of each host. Raises `NotFound`."""
    return AdminOverlay.of((yield get("/admin-overlay")).get("admin_overlay"))


def create_admin_overlay(
    ip_range: str | None = None,
    *,
    ipv6_range: str | None = None,
    addresses: Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
    vxlan_vni: int | None = None,
    vlan: int | None = None,
    mtu: int | None = None,
    profile: str | None = None,
    default_acl: Sequence[str] | None = None,
) -> Operation[AdminOverlay]:
    """Create the admin overlay: every host gets an address of the range in its own namespace. `addresses` are those of hosts that shall not have
    just any free one."""
    body = stated(
        ip_range=ip_range,
        ipv6_range=ipv6_range,
        addresses=addresses,
        name=name,
        vxlan_vni=vxlan_vni,
        vlan=vlan,
        mtu=mtu,
        profile=profile,
        default_acl=default_acl,
    )
    return AdminOverlay.of((yield post("/admin-overlay", body)).get("admin_overlay"))


def update_admin_overlay(
    *, addresses: Mapping[str, Sequence[str] | None] | None = None, **fields: Any
) -> Operation[AdminOverlay]:
    """Change `addresses` of hosts (None: any), `vlan`, `mtu` and `default_acl` (None takes the value away)."""
    return AdminOverlay.of((yield post("/admin-overlay/update", stated(addresses=addresses) | fields)).get("admin_overlay"))


def delete_admin_overlay() -> Operation[None]:
    """Delete the admin overlay: no host has an address of it any more."""
    yield delete("/admin-overlay")
