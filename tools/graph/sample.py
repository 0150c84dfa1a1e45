"""`python -m tools.graph.sample HOSTS ENDPOINTS`: prints a document of that size, the same each time, for pictures and tests. Pure."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from typing import Any

import yaml

from specs.model.derived import default_mac

NETWORKS = ("shop", "billing", "search", "mail", "build", "metrics", "staging", "guests", "backup", "voice", "archive", "lab")
ROLES = ("web", "api", "db", "cache", "queue", "batch")


def sample(hosts: int, endpoints: int) -> dict[str, Any]:
    """So many hosts and endpoints on twelve networks; a network lives on some hosts only."""
    networks: list[dict[str, Any]] = []
    for number, name in enumerate(NETWORKS):
        networks.append({"name": name, "vxlan_vni": 100 + number, "ip_range": f"10.{number}.0.0/16"})
    networks[0] |= {"mode": "nat", "gateway": "10.0.0.1/16"}
    drawn = []
    for i in range(endpoints):
        number = (i * 7 + i // hosts) % len(NETWORKS)
        some = max(2, min(hosts, hosts // 5 + number))  # the hosts that the network lives on, beginning at one of its own
        host = (number * hosts // len(NETWORKS) + (i // len(NETWORKS)) * 3 % some) % hosts + 1
        address = IPv4Address(f"10.{number}.0.2") + i // len(NETWORKS)
        drawn.append(
            {"name": f"{ROLES[i % len(ROLES)]}-{i + 1}", "network": NETWORKS[number], "host": f"h{host}", "mac_address": default_mac("", address, None),
             "ipv4_address": str(address), "ofport": i // hosts + 1}
        )  # fmt: skip
    return {
        "hosts": [{"name": f"h{n}", "vtep": str(IPv4Address("198.18.0.10") + n)} for n in range(1, hosts + 1)],
        "networks": networks,
        "endpoints": drawn,
    }


if __name__ == "__main__":
    print(yaml.safe_dump(sample(int(sys.argv[1]), int(sys.argv[2])), sort_keys=False), end="")
