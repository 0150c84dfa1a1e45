"""Bodies of Docker's calls for a fuzz: right ones, and ones in which one or two values are something else."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

CALLS = (
    "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join", "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity", "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "NetworkDriver.DeleteNetwork",
    "NetworkDriver.EndpointOperInfo", "NetworkDriver.GwAllocCheck", "NetworkDriver.DiscoverNew", "IpamDriver.RequestPool",
    "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress", "IpamDriver.ReleasePool", "IpamDriver.GetDefaultAddressSpaces",
)  # fmt: skip
ODD: tuple[Any, ...] = (None, 0, -1, 70000, 1e308, True, "", " ", "x" * 5000, "\0", "../../etc", "\ud800", "é", "10.0.0.0/33", "::/0", "1.2.3.4",
                        [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, "ff:ff:ff:ff:ff:ff", "9" * 400)  # fmt: skip


def right(network: str, endpoint: str) -> dict[str, Any]:
    """A body that has what every call reads."""
    return {
        "NetworkID": network,
        "EndpointID": endpoint,
        "SandboxKey": "/var/run/docker/netns/0123456789ab",
        "PoolID": "pool-0",
        "Pool": "10.213.0.0/24",
        "SubPool": "10.213.0.128/25",
        "Address": "10.213.0.9",
        "AddressSpace": "warren-local",
        "V6": False,
        "Interface": {"Address": "10.213.0.9/24", "AddressIPv6": "", "MacAddress": "02:00:00:00:09:09"},
        "Options": {
            "com.docker.network.generic": {"warren.mode": "nat", "warren.add_ports": ""},
            "com.docker.network.internal": False,
            "com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostIP": "", "HostPort": 8213, "HostPortEnd": 8213}],
            "RequestAddressType": "com.docker.network.gateway",
        },
        "IPv4Data": [
            {"AddressSpace": "x", "Pool": "10.213.0.0/24", "Gateway": "10.213.0.1/24", "AuxAddresses": {"a": "10.213.0.7/24"}}
        ],
        "IPv6Data": [],
    }


def wrong(chance: random.Random, network: str, endpoint: str) -> dict[str, Any]:
    """The same with one or two odd values."""
    body = copy.deepcopy(right(network, endpoint))
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = chance.choice(list(_places(body)))
        holder[key] = chance.choice(ODD)
    return body


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a body, by what holds it."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield part, key
        yield from _places(value)
