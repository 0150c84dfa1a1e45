"""Azure's metadata: one JSON document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from underlay.fields import items, mac_address, network, text, tree, usable, within
from underlay.model import AnyNetwork, Location, Metadata, Nic, PublicAddress, checked
from warren.errors import MISSING, Invalid

SECRET = ("customData", "userData")  # of `compute`: scripts of the administrator, which may hold passwords


def metadata(document: Any, balancer: Any = None) -> Metadata:
    """Return the metadata from the instance's document. Only the load balancer's document, `balancer`, has public addresses of the standard
    tier. Raises `Invalid`."""
    public = _balanced(balancer)
    interfaces = list(items(tree(document, "instance", "network"), "instance.network", "interface"))
    nics = checked(tuple(_nic(interface, path, public) for path, interface in interfaces), "instance.network.interface")
    compute = tree(document, "instance", "compute")
    shown = {**document, "compute": {name: value for name, value in compute.items() if name not in SECRET}}
    return Metadata(
        nics=nics,
        location=Location(
            cloud="azure",
            region=text(compute, "instance.compute", "location"),
            vpc=text(compute, "instance.compute", "resourceGroupName", "").lower(),
        ),
        system=shown,
        network=shown,
        links={nic.mac: interface for nic, (_, interface) in zip(nics, interfaces, strict=True)},
    )


def _nic(interface: Any, path: str, balanced: Mapping[str, str]) -> Nic:
    mac = mac_address(text(interface, path, "macAddress"), f"{path}.macAddress")
    subnets = tuple(_subnets(interface, path))
    addresses, public = [], []
    for family in ("ipv4", "ipv6"):
        block = tree(interface, path, family, optional=True)
        for place, item in items(block, f"{path}.{family}", "ipAddress", optional=True):
            private = usable(text(item, place, "privateIpAddress"), f"{place}.privateIpAddress")
            addresses.append(within(private, subnets))
            outside = text(item, place, "publicIpAddress", "") or balanced.get(str(private), "")
            if outside:
                public.append(PublicAddress(public=usable(outside, f"{place}.publicIpAddress"), private=private))
    ranges4 = [subnet for subnet in subnets if isinstance(subnet, IPv4Network)]
    if any(address.version == 4 for address in addresses) and not ranges4:
        raise Invalid(f"{path}.ipv4.subnet", MISSING, "the interface has IPv4 addresses")
    return Nic(
        mac=mac,
        addresses=tuple(addresses),
        subnets=subnets,
        gateway4=ranges4[0][1] if ranges4 else None,
        public=tuple(public),
    )


def _subnets(interface: Any, path: str) -> list[AnyNetwork]:
    return [
        network(f"{text(subnet, place, 'address')}/{text(subnet, place, 'prefix')}", place)
        for family in ("ipv4", "ipv6")
        for place, subnet in items(tree(interface, path, family, optional=True), f"{path}.{family}", "subnet", optional=True)
    ]


def _balanced(balancer: Any) -> dict[str, str]:
    """Return the public address of each private one. Wrong entries are ignored, because the document is not essential."""
    inner = balancer.get("loadbalancer") if isinstance(balancer, Mapping) else None
    pairs = inner.get("publicIpAddresses") if isinstance(inner, Mapping) else None
    return {
        str(pair.get("privateIpAddress")): str(pair.get("frontendIpAddress") or "")
        for pair in (pairs if isinstance(pairs, list) else ())
        if isinstance(pair, Mapping)
    }
