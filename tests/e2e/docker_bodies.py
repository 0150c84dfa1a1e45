"""Bodies of Docker's calls for a fuzz: right ones, and ones in which one or two values are something else."""

from __future__ import annotations

import random
from typing import Any

from tests.e2e.odd_values import spoiled

CALLS = (
    "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join", "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity", "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "NetworkDriver.DeleteNetwork",
    "NetworkDriver.EndpointOperInfo", "NetworkDriver.GwAllocCheck", "NetworkDriver.DiscoverNew", "NetworkDriver.DiscoverDelete",
    "NetworkDriver.GetCapabilities", "IpamDriver.RequestPool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress",
    "IpamDriver.ReleasePool", "IpamDriver.GetDefaultAddressSpaces", "IpamDriver.GetCapabilities",
)  # fmt: skip


def right(network: str, endpoint: str) -> dict[str, Any]:
    """A body that has what every call reads."""
    return {
        "NetworkID": network,
        "EndpointID": endpoint,
        "SandboxKey": "/var/run/docker/netns/0123456789ab",
        "PoolID": "pool-0",
        "DiscoveryType": 1,
        "DiscoveryData": {"Address": "198.18.0.11", "BindAddress": "198.18.0.11", "Self": True},
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
    return spoiled(chance, right(network, endpoint))
