"""Networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.errors import NotFound
from warren.client.results import (
    Network,
    all_of,
)


def networks(tenant: str | None = None) -> Operation[tuple[Network, ...]]:
    """All networks, or those of a tenant."""
    return all_of(Network, (yield get("/networks", tenant=tenant)), "networks")


def network(ref: str) -> Operation[Network]:
    """One network, by name or id."""
    return (yield from find_network(ref))


def find_network(ref: str) -> Operation[Network]:
    """As `network`, for operations with a parameter of that name."""
    try:
        return Network.of((yield get(path("networks", ref))).get("network"))
    except NotFound as error:
        if error.what is not None:
            raise
        for candidate in (yield from networks()):  # SAND finds networks by id only
            if ref in (candidate.id, candidate.name):
                return candidate
        raise


def create_network(
    name: str | None = None,
    *,
    ip_range: str | None = None,
    gateway: str | None = None,
    ipv6_range: str | None = None,
    ipv6_gateway: str | None = None,
    vxlan_vni: int | None = None,
    mtu: int | None = None,
    vlan: int | None = None,
    vlan_transparent: bool | None = None,
    mode: str | None = None,
    default_acl: Sequence[str] | None = None,
    vlan_out_acl: Sequence[str] | None = None,
    nat_acl: Sequence[str] | None = None,
    ct_limit: int | None = None,
    host_access: str | None = None,
    preallocate: int | None = None,
    dns_server: bool | None = None,
    dhcp: bool | str | None = None,
    dns: Sequence[str] | None = None,
    domain: str | None = None,
    dhcp_lease_s: int | None = None,
    dhcp_routes: Sequence[Mapping[str, str]] | None = None,
    boot: Mapping[str, Any] | None = None,
    ntp: Sequence[str] | None = None,
    search: Sequence[str] | None = None,
    reservations: Sequence[Mapping[str, str]] | None = None,
    dhcp_pool: Mapping[str, Any] | str | None = None,
    labels: Mapping[str, str] | None = None,
    tenant: str | None = None,
    profile: str | None = None,
) -> Operation[Network]:
    """Create a network. The agent chooses what is left out: name, range, gateway, VNI. The fields are those of documents (docs/specs.md)."""
    body = stated(
        name=name,
        ip_range=ip_range,
        gateway=gateway,
        ipv6_range=ipv6_range,
        ipv6_gateway=ipv6_gateway,
        vxlan_vni=vxlan_vni,
        mtu=mtu,
        vlan=vlan,
        vlan_transparent=vlan_transparent,
        mode=mode,
        default_acl=default_acl,
        vlan_out_acl=vlan_out_acl,
        nat_acl=nat_acl,
        ct_limit=ct_limit,
        host_access=host_access,
        preallocate=preallocate,
        dns_server=dns_server,
        dhcp=dhcp,
        dns=dns,
        domain=domain,
        dhcp_lease_s=dhcp_lease_s,
        dhcp_routes=dhcp_routes,
        boot=boot,
        ntp=ntp,
        search=search,
        reservations=reservations,
        dhcp_pool=dhcp_pool,
        labels=labels,
        tenant=tenant,
        profile=profile,
    )
    return Network.of((yield post("/networks", body)).get("network"))


def delete_network(ref: str) -> Operation[None]:
    """Delete a network; it must have no endpoints."""
    yield delete(path("networks", ref))
