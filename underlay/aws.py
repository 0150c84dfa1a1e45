"""EC2's metadata: a tree of texts. Pure; `underlay/fetch.py` walks it, once for the instance and once for its network."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from underlay.fields import mac_address, network, text, tree, usable, usable4, usable6, within
from underlay.model import AnyAddress, AnyNetwork, Location, Metadata, Nic, PublicAddress, checked
from warren.errors import MISSING, Invalid

SECRET = ("iam/", "identity-credentials/", "managed-ssh-keys/")  # never fetched: temporary keys, and signers of SSH logins
IDENTITY = ("document", "pkcs7", "signature", "rsa2048")


def metadata(system: Any, macs: Any, identity: Mapping[str, Any]) -> Metadata:
    """Return the metadata from walks of the trees; `macs` is the tree below network/interfaces/macs. Raises `Invalid`."""
    if not isinstance(macs, Mapping):
        raise Invalid("macs", macs, "a tree for each MAC")
    trees = sorted(macs.items(), key=lambda item: _order(item[1], f"macs.{item[0]}"))
    nics = checked(tuple(_nic(mac, leaves, f"macs.{mac}") for mac, leaves in trees), "macs")
    placement = tree(system, "meta-data", "placement")
    zone = text(placement, "meta-data.placement", "availability-zone", "")
    region = text(placement, "meta-data.placement", "region", zone[:-1])
    return Metadata(
        nics=nics,
        location=Location(cloud="aws", region=region, vpc=text(trees[0][1], f"macs.{trees[0][0]}", "vpc-id", "")),
        system=system,
        network=macs,
        links={mac_address(mac, "macs"): leaves for mac, leaves in macs.items()},
        identity=identity,
    )


def _order(leaves: Any, path: str) -> tuple[int, int]:
    """Return the number of a NIC's network card, and the NIC's number on that card: 0, 0 is the primary NIC."""
    numbers = [text(leaves, path, "network-card", "0"), text(leaves, path, "device-number")]
    for number in numbers:
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise Invalid(f"{path}.device-number", number, "a number")
    return int(numbers[0]), int(numbers[1])


def _nic(mac: str, leaves: Any, path: str) -> Nic:
    subnets = tuple(
        network(line, f"{path}.{leaf}")
        for leaf in ("subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks")
        for line in _lines(leaves, path, leaf)
    )
    addresses4 = [usable4(line, f"{path}.local-ipv4s") for line in _lines(leaves, path, "local-ipv4s")]
    addresses6 = [usable6(line, f"{path}.ipv6s") for line in _lines(leaves, path, "ipv6s")]
    ranges4 = [subnet for subnet in subnets if isinstance(subnet, IPv4Network)]
    if addresses4 and not ranges4:
        raise Invalid(f"{path}.subnet-ipv4-cidr-block", MISSING, "the interface has IPv4 addresses")
    both: tuple[AnyAddress, ...] = (*addresses4, *addresses6)
    return Nic(
        mac=mac_address(mac, path),
        addresses=tuple(within(address, subnets) for address in both),
        subnets=subnets,
        prefixes=tuple(_prefixes(leaves, path)),
        gateway4=ranges4[0][1] if ranges4 else None,
        public=tuple(_public(leaves, path)),
    )


def _lines(leaves: Any, path: str, leaf: str) -> list[str]:
    return text(leaves, path, leaf, "").replace(",", " ").split()  # lists are joined with commas (underlay/fetch.py)


def _prefixes(leaves: Any, path: str) -> list[AnyNetwork]:
    return [network(line, f"{path}.{leaf}") for leaf in ("ipv4-prefix", "ipv6-prefix") for line in _lines(leaves, path, leaf)]


def _public(leaves: Any, path: str) -> list[PublicAddress]:
    associations = tree(leaves, path, "ipv4-associations", optional=True)
    place = f"{path}.ipv4-associations"
    return [
        PublicAddress(public=usable(public, place), private=usable(private, f"{place}.{public}"))
        for public in sorted(associations)
        for private in _lines(associations, place, public)
    ]
