"""Generators of spec changes: few names, so that they vanish, move, change and conflict; three hosts at least."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from specs import keys

HOSTS = ("h1", "h2", "h3")
NETWORKS = ("amber", "blue")
ENDPOINTS = tuple(f"e{i}" for i in range(6))


def host(name: str, vtep: str) -> tuple[str, str]:
    """A store entry."""
    return keys.host(name), json.dumps({"name": name, "vtep": vtep})


def network(name: str, vni: int, v4: bool = True, v6: bool = True) -> tuple[str, str]:
    """A store entry."""
    data: dict[str, Any] = {"id": name, "name": name, "vxlan_vni": vni}
    if v4:
        data |= {"ip_range": "10.0.0.0/24", "gateway": "10.0.0.1/24"}
    if v6:
        data |= {"ipv6_range": "fd00::/64"}
    return keys.network(name), json.dumps(data)


def endpoint(
    name: str, net: str, on: str, number: int, ofport: int, v4: bool = True, v6: bool = True, active: bool = True
) -> tuple[str, str]:
    """A store entry; `number` makes MAC and addresses."""
    data: dict[str, Any] = {
        "id": name,
        "network_id": net,
        "host": on,
        "mac_address": f"02:57:0a:00:00:{number:02x}",
        "ofport": ofport,
        "active": active,
    }
    if v4:
        data["ipv4_address"] = f"10.0.0.{number}"
    if v6:
        data["ipv6_address"] = f"fd00::{number:x}"
    return keys.endpoint(net, name), json.dumps(data)


hosts = st.builds(host, st.sampled_from(HOSTS), st.sampled_from(("198.18.0.11", "198.18.0.12", "198.18.0.13")))
networks = st.builds(network, st.sampled_from(NETWORKS), st.sampled_from((7, 8)), st.booleans(), st.booleans())
endpoints = st.builds(
    endpoint,
    st.sampled_from(ENDPOINTS),
    st.sampled_from(NETWORKS),
    st.sampled_from(HOSTS),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from((True, True, True, False)),
)
malformed = st.sampled_from(
    (
        (keys.endpoint("amber", "e1"), "{"),
        (keys.network("blue"), '{"id": "blue"}'),
        (keys.host("h2"), '{"name": "h3", "vtep": "198.18.0.9"}'),
    )
)
writes = st.one_of(endpoints, endpoints, endpoints, networks, hosts, malformed)
