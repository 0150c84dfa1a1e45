"""Google Compute Engine's metadata: one JSON document. Pure."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_interface, ip_network
from typing import Any

from underlay.fields import items, mac_address, mtu, network, text, tree, usable, usable4, usable6
from underlay.model import AnyInterface, AnyNetwork, Location, Metadata, Nic, PublicAddress, checked
from warren.errors import Invalid

KEYS = ("ssh-keys", "sshKeys")  # the only attributes of the project that are read; others may hold passwords
DELEGATED6 = 96  # the length of the IPv6 range that an interface gets; its first address is the interface's


def metadata(document: Any) -> Metadata:
    """Return the metadata from the document. Raises `Invalid`."""
    instance = tree(document, "v1", "instance")
    interfaces = list(items(instance, "v1.instance", "networkInterfaces"))
    nics = checked(tuple(_nic(interface, path) for path, interface in interfaces), "v1.instance.networkInterfaces")
    zone = text(instance, "v1.instance", "zone").rpartition("/")[2]
    shown = _without_secrets(document, instance)
    return Metadata(
        nics=nics,
        location=Location(
            cloud="gcp",
            region=zone.rpartition("-")[0] or zone,
            vpc=text(interfaces[0][1], interfaces[0][0], "network", "").rpartition("/")[2],
        ),
        system=shown,
        network=shown,
        links={nic.mac: interface for nic, (_, interface) in zip(nics, interfaces, strict=True)},
    )


def _without_secrets(document: Any, instance: Any) -> Any:
    project = tree(document, "v1", "project", optional=True)
    keys = {name: value for name, value in tree(project, "v1.project", "attributes", optional=True).items() if name in KEYS}
    return {**document, "instance": {**instance, "attributes": {}}, "project": {**project, "attributes": keys}}


def _nic(interface: Any, path: str) -> Nic:
    """Return a NIC. Its addresses are single ones: the subnet is not a link, because the gateway routes to all other addresses of it."""
    mac = mac_address(text(interface, path, "mac"), f"{path}.mac")
    addresses: list[AnyInterface] = []
    prefixes: list[AnyNetwork] = []
    if interface.get("ip"):
        addresses.append(ip_interface(usable4(interface["ip"], f"{path}.ip")))
    for place, alias in items(interface, path, "ipAliases", optional=True):
        prefix = network(alias if "/" in str(alias) else f"{alias}/32", place)
        if prefix.prefixlen == prefix.max_prefixlen:
            addresses.append(ip_interface(prefix.network_address))
        else:
            prefixes.append(prefix)
    for place, item in items(interface, path, "ipv6s", optional=True):
        address = usable6(item, place)
        addresses.append(ip_interface(address))
        prefixes.append(ip_network((address, DELEGATED6), strict=False))
    return Nic(
        mac=mac,
        addresses=tuple(addresses),
        subnets=tuple(_subnet(interface, path)),
        prefixes=tuple(prefixes),
        gateway4=usable4(text(interface, path, "gateway"), f"{path}.gateway") if interface.get("gateway") else None,
        gateway6=_gateway6(interface, path),
        mtu=mtu(interface.get("mtu") or 0, f"{path}.mtu"),
        public=tuple(_public(interface, path)),
    )


def _subnet(interface: Any, path: str) -> list[AnyNetwork]:
    if not interface.get("ip") or not interface.get("subnetmask"):
        return []
    mask, place = text(interface, path, "subnetmask"), f"{path}.subnetmask"
    try:
        return [ip_network(f"{interface['ip']}/{mask}", strict=False)]
    except ValueError:
        raise Invalid(place, mask, "a mask such as 255.255.240.0") from None


def _gateway6(interface: Any, path: str) -> IPv6Address | None:
    value = text(interface, path, "gatewayIpv6", "")
    return usable6(value, f"{path}.gatewayIpv6") if value else None


def _public(interface: Any, path: str) -> list[PublicAddress]:
    private = interface.get("ip")
    configs = items(interface, path, "accessConfigs", optional=True)
    public = [(place, text(config, place, "externalIp", "")) for place, config in configs]
    return [
        PublicAddress(public=usable(address, f"{place}.externalIp"), private=usable(private, f"{path}.ip"))
        for place, address in public
        if address
    ]
