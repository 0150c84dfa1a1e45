"""The table of the search plug-in `files`: where each MAC of an overlay is, on one host. Pure.

{"b2:aa:d8:00:00:01": {"ip": "192.168.100.101", "port": 4789, "arp": "10.44.44.14", "ndp": "fd00::14"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import Profile
from warren.errors import MISSING, Conflict, Invalid

PORT = 4789
FIELDS = ("ip", "port", "arp", "ndp", "dhcp-proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """Where a MAC is: the host's address and UDP port, and the addresses for which others are answered with it. DHCP questions of the MAC go to
    `dhcp_proxy`."""

    ip: IPv4Address | IPv6Address
    port: int = PORT
    arp: IPv4Address | None = None
    ndp: IPv6Address | None = None
    dhcp_proxy: str | None = None

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        values = (self.ip, self.port, self.arp, self.ndp, self.dhcp_proxy)
        return {
            name: value if isinstance(value, int | str) else str(value)
            for name, value in zip(FIELDS, values, strict=True)
            if value is not None
        }


MacTable = Mapping[str, TableEntry]  # by MAC


def parse(text: str) -> MacTable:
    """Read a table. Raises `Invalid` with the path to what is wrong."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Invalid("table", text, f"a JSON object ({error})") from None
    if not isinstance(data, dict):
        raise Invalid("table", data, "an object with an entry for each MAC")
    table = {_mac(mac, "table"): _entry(entry, f"table.{mac}") for mac, entry in data.items()}
    if len(table) != len(data):
        raise Invalid("table", text, "each MAC once")
    return table


def _entry(data: Any, path: str) -> TableEntry:
    if not isinstance(data, dict):
        raise Invalid(path, data, f"an object with some of the fields {', '.join(FIELDS)}")
    for name, value in data.items():
        if name not in FIELDS:
            raise Invalid(f"{path}.{name}", value, f"one of the fields {', '.join(FIELDS)}")
    if "ip" not in data:
        raise Invalid(f"{path}.ip", MISSING, "the address of the host that has the MAC")
    port = data.get("port", PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65_535:
        raise Invalid(f"{path}.port", port, "a number from 1 to 65535")
    proxy = data.get("dhcp-proxy")
    arp, ndp = (_address(data, name, version, path) for name, version in (("arp", 4), ("ndp", 6)))
    return TableEntry(
        ip=_address(data, "ip", None, path),
        port=port,
        arp=arp,
        ndp=ndp,
        dhcp_proxy=_mac(proxy, f"{path}.dhcp-proxy") if proxy is not None else None,
    )


def _address(data: Mapping[str, Any], name: str, version: int | None, path: str) -> Any:
    value = data.get(name)
    if value is None:
        return None
    expected = f"an IPv{version} address" if version else "an IP address"
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise Invalid(f"{path}.{name}", value, expected) from None
    if version not in (None, address.version):
        raise Invalid(f"{path}.{name}", value, expected)
    return address


def _mac(value: Any, path: str) -> str:
    """A MAC with two digits for each byte: SmartOS writes single ones as well."""
    parts = value.lower().split(":") if isinstance(value, str) else []
    try:
        numbers = [int(part, 16) for part in parts if part.isascii() and part.isalnum() and len(part) <= 2]
    except ValueError:
        numbers = []
    if len(parts) != 6 or len(numbers) != 6:
        raise Invalid(path, value, "a MAC address such as b2:aa:d8:00:00:01")
    return ":".join(f"{number:02x}" for number in numbers)


def text_of(table: MacTable) -> str:
    """A table as SmartOS reads it, a MAC a line."""
    lines = (f"  {json.dumps(mac)}: {json.dumps(entry.data())}" for mac, entry in sorted(table.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n" if table else "{}\n"


def table_of(
    local: Host, profile: Profile, hosts: Mapping[str, Host], networks: Mapping[str, Network], endpoints: Iterable[Endpoint]
) -> MacTable:
    """The table of a profile on a host: the endpoints of other hosts, at their inside addresses in its own site, elsewhere at their outside ones.
    Raises `Conflict` for a MAC that two networks have, which the table cannot tell apart."""
    table: dict[str, TableEntry] = {}
    places: dict[str, str] = {}
    for endpoint in sorted(endpoints, key=lambda e: e.id):
        network, host = networks.get(endpoint.network_id), hosts.get(endpoint.host)
        if network is None or host is None or host.name == local.name or not endpoint.active:
            continue
        ip = host.vtep if host.site == local.site else host.outside.reached if host.outside is not None else None
        if ip is None or not profile.has(host):
            continue
        mac = endpoint.mac_address
        if mac in table:
            raise Conflict(f"networks {places[mac]} and {network.name} both have MAC {mac}: name one of them", holder=places[mac])
        places[mac] = network.name
        table[mac] = TableEntry(ip=ip, port=profile.port, arp=endpoint.ipv4_address, ndp=endpoint.ipv6_address)
    return table


def items_of(table: MacTable, network: str, hosts: Mapping[str, Host]) -> list[dict[str, Any]]:
    """The endpoints of a table as items of a document: preconfigured ones, on the hosts that have the addresses. Raises `Invalid` for an address that
    no host has."""
    by_address = {str(address): host.name for host in hosts.values() for address in _addresses(host)}
    items = []
    for mac, entry in sorted(table.items()):
        if str(entry.ip) not in by_address:
            raise Invalid(f"table.{mac}.ip", str(entry.ip), "the inside or outside address of a host (warren host list)")
        item = {
            "name": f"smartos-{mac.replace(':', '')}",
            "network": network,
            "host": by_address[str(entry.ip)],
            "mac_address": mac,
            "active": False,
        }
        addresses = {"ipv4_address": entry.arp, "ipv6_address": entry.ndp}
        items.append(item | {name: str(address) for name, address in addresses.items() if address is not None})
    return items


def _addresses(host: Host) -> list[Any]:
    outside = [host.outside.address, host.outside.reached] if host.outside is not None else []
    return [host.vtep, *outside]
