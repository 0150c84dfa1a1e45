"""Hypothesis strategies for spec changes. They draw from few names, so that objects vanish, move, change and conflict; three hosts at least."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from specs import keys
from specs.model.allowed import overlap

HOSTS = ("h1", "h2", "h3")
NETWORKS = ("amber", "blue", "amber", "blue", "green", "teal")  # the first two are met more often
ACLS = ("base", "web", "db")
METERS = ("slow", "slower")
PROFILES = ("default", "far", "safe")
ENDPOINTS = tuple(f"e{i}" for i in range(7))


def host(name: str, vtep: str, acls: tuple[str, ...] = (), site: str | None = None) -> tuple[str, str]:
    """A store entry."""
    outside = {"address": f"203.0.113.{name[1:]}"} if site else None
    far = {"site": site, "outside": outside, "tunnel_address": f"100.125.0.{name[1:]}", "public_key": name} if site else {}
    return keys.host(name), json.dumps({"name": name, "vtep": vtep, "acls": acls, **far})


def profile(name: str, hosts: tuple[str, ...] = ("all",), encryption: str = "auto", port: int = 0) -> tuple[str, str]:
    """A store entry."""
    number = PROFILES.index(name)
    data = {"name": name, "port": port or 4789 + number, "number": number, "hosts": hosts, "encryption": encryption}
    return keys.profile(name), json.dumps(data)


def hostnet(name: str, *prefixes: tuple[str, str]) -> tuple[str, str]:
    """A store entry: what a host has (prefix, kind)."""
    return keys.hostnet(name), json.dumps({"name": name, "prefixes": [{"prefix": p, "kind": k, "via": "x"} for p, k in prefixes]})


def cluster(transit4: str, transit6: str = "fd57:7272:656e::/63") -> tuple[str, str]:
    """A store entry."""
    return keys.cluster("default"), json.dumps({"name": "default", "transit4": transit4, "transit6": transit6})


def acl(name: str, rules: list[Any]) -> tuple[str, str]:
    """A store entry."""
    return keys.acl(name), json.dumps({"name": name, "rules": rules})


def meter(name: str, rate: int) -> tuple[str, str]:
    """A store entry."""
    return keys.meter(name), json.dumps({"name": name, "meter_id": 1 + METERS.index(name), "rate": rate})


def mirror(
    name: str,
    sources: list[dict[str, str]],
    to: dict[str, str],
    direction: str = "both",
    match: Any = None,
    vlan: int | None = None,
    snap: int | None = None,
    vni: int = 4000,
) -> tuple[str, str]:
    """A store entry."""
    data = {"name": name, "sources": sources, "to": to, "direction": direction, "match": match, "vlan": vlan}
    data["snap"] = None if "gre" in to else snap
    return keys.mirror(name), json.dumps(data | {"vni": vni})


def router(name: str, *networks: str) -> tuple[str, str]:
    """A store entry."""
    return keys.router(name), json.dumps({"name": name, "networks": networks})


def service(name: str, network: str, host_port: int, proto: str = "tcp", **whom: Any) -> tuple[str, str]:
    """A store entry."""
    data = {"name": name, "network": network, "host_port": host_port, "port": 80, "proto": proto}
    return keys.service(name), json.dumps(data | whom)


def subnet(network: str) -> int:
    """Green and teal have addresses of their own, all others have the same."""
    return {"green": 1, "teal": 2}.get(network, 0)


def capture(name: str, source: dict[str, str], on: str, vni: int) -> tuple[str, str]:
    """A store entry."""
    data = {"name": name, "sources": [source], "to": {"host": on, "interface": "tap0"}, "vni": vni}
    return keys.capture(name), json.dumps(data)


def tenant(acls: tuple[str, ...]) -> tuple[str, str]:
    """A store entry."""
    return keys.tenant("default"), json.dumps({"name": "default", "acls": acls})


def network(
    name: str,
    vni: int,
    v4: bool = True,
    v6: bool = True,
    default: tuple[str, ...] = (),
    out: tuple[str, ...] = (),
    transparent: bool = False,
    mode: str = "flat",
    nat: tuple[str, ...] = (),
    dhcp: bool | str = False,
    labels_required: bool = False,
    mtu: int | None = None,
    named: bool = False,
    profile: str | None = None,
    tenant: str | None = None,
) -> tuple[str, str]:
    """A store entry. A tenant that ends in a slash is in the name, too."""
    if dhcp == "external":
        v4, mode = False, "flat"
    data: dict[str, Any] = {"id": name, "name": name, "vxlan_vni": vni, "default_acl": default, "vlan_out_acl": out}
    data |= {
        "vlan_transparent": transparent,
        "mode": mode if v4 or v6 else "flat",
        "nat_acl": nat,
        "dhcp": dhcp if dhcp == "external" else dhcp and (v4 or v6),
    }
    data |= {"labels_required": labels_required, "mtu": mtu, "dns_server": named and (v4 or v6)}
    data |= {"profile": profile, "profile_number": PROFILES.index(profile)} if profile else {}
    if tenant is not None:
        data |= {"tenant": tenant.rstrip("/"), "name": f"{tenant}{name}" if tenant.endswith("/") else name}
    if v4:
        data |= {"ip_range": f"10.{subnet(name)}.0.0/24", "gateway": f"10.{subnet(name)}.0.1/24"}
    if v6:
        data |= {"ipv6_range": f"fd00:{subnet(name)}::/64", "ipv6_gateway": f"fd00:{subnet(name)}::1/64"}
    return keys.network(name), json.dumps(data)


def endpoint(
    name: str,
    net: str,
    on: str,
    number: int,
    ofport: int,
    v4: bool = True,
    v6: bool = True,
    active: bool = True,
    acls: tuple[str, ...] | None = None,
    labels: dict[str, str] | None = None,
    publish: list[dict[str, Any]] | None = None,
    labelled: bool = True,
    leased: bool = False,
    allowed: list[str] | None = None,
) -> tuple[str, str]:
    """A store entry; `number` makes MAC and addresses."""
    data: dict[str, Any] = {
        "id": name,
        "network_id": net,
        "host": on,
        "mac_address": f"02:57:0a:00:00:{number:02x}",
        "ofport": ofport,
        "active": active,
        "acls": acls,
        "labels": labels or {},
        "publish": publish or [],
        "labelled": labelled,
        "allowed": allowed or [],
    }
    if v4:
        data["ipv4_address"] = f"10.{subnet(net)}.0.{number}"
        data |= {"leased_prefix": 24} if leased else {}
    if v6:
        data["ipv6_address"] = f"fd00:{subnet(net)}::{number:x}"
    return keys.endpoint(net, name), json.dumps(data)


def behind(
    name: str, net: str, on: str, ofport: int, port: str, vlan: int | None = None, coprocessor: int | None = None, **more: Any
) -> tuple[str, str]:
    """An endpoint behind an interface."""
    key, value = endpoint(name, net, on, 128 + sum(name.encode()) % 100, ofport, v4=False, v6=False, **more)
    choosing = {"coprocessor": {"vlan_vid_base": coprocessor}} if coprocessor else {}
    return key, json.dumps(json.loads(value) | {"port": port, "vlan": vlan, **choosing})


def inside(name: str, net: str, on: str, number: int, ofport: int, parent: str, vlan: int, **more: Any) -> tuple[str, str]:
    """An endpoint on another one's port."""
    key, value = endpoint(name, net, on, number, ofport, **more)
    return key, json.dumps(json.loads(value) | {"parent": parent, "vlan": vlan})


def disjoint(entries: list[str]) -> bool:
    """Whether one endpoint may be allowed all of these."""
    prefixes = [ip_network(entry.partition(",")[0]) for entry in entries]
    return not any(overlap(one, other) for number, one in enumerate(prefixes) for other in prefixes[:number])


mostly = st.sampled_from((True, True, True, False))
lists = st.sampled_from(((), (), (), ("base",), ("web",), ("web", "base"), ("nowhere",)))
whom = st.sampled_from(
    (
        {"label": "web"},
        {"label": "role=db"},
        {"endpoint": "e1"},
        {"network": "blue"},
        {"network": "acme/blue"},
        {"cidr": "10.0.0.0/29"},
    )
)
rules = st.sampled_from(
    (
        {"actions": {"allow": 1}},
        {"dl_type": 0x800, "nw_dst": "10.0.0.3", "actions": {"allow": 0}},
        {"dl_type": 0x806, "actions": {"allow": 1, "meter": "slow"}},
        {"actions": {"output": {"port": "e1"}}},
        {"actions": {"mirror": 2}},
        {"state": ["established"], "actions": {"allow": 1}},
    )
) | st.builds(
    lambda source, target, ports, related: {
        "from": source, "to": target, "proto": "tcp", "tcp_dst": ports, "allow_related": related, "actions": {"allow": 1},
    },
    whom, whom, st.sampled_from((80, [80, 443], "1000-1009")), st.booleans(),
)  # fmt: skip
acls = st.builds(acl, st.sampled_from(ACLS), st.lists(rules, min_size=1, max_size=4))
meters = st.builds(meter, st.sampled_from(METERS), st.integers(1, 3))
tenants = st.builds(tenant, lists)
mirrors = st.builds(
    mirror,
    st.sampled_from(("all", "some")),
    st.lists(
        st.sampled_from(
            (
                {"network": "amber"}, {"network": "blue", "label": "web"}, {"network": "amber", "endpoint": "e0"},
                {"network": "blue", "endpoint": "e3"}, {"network": "nowhere"},
                {"network": "acme/amber"}, {"network": "acme/blue", "label": "web"},
            )
        ),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from(
        (
            {"network": "amber", "endpoint": "e2"}, {"network": "blue", "endpoint": "e1"}, {"gre": "192.0.2.9"},
            {"host": "h1", "interface": "tap0"}, {"host": "h2", "interface": "tap0"},
        )
    ),
    st.sampled_from(("in", "out", "both")),
    st.sampled_from((None, {"proto": "tcp", "tcp_dst": [80, 443]}, ({"proto": "udp", "udp_src": 53}, {"dl_type": 0x806}))),
    st.sampled_from((None, 356)),
    st.sampled_from((None, 128)),
    st.sampled_from((4000, 4001)),
)  # fmt: skip
routers = st.builds(
    lambda name, networks: router(name, *networks),
    st.sampled_from(("core", "edge")),
    st.sampled_from(
        (
            ("amber", "green"),
            ("blue", "green"),
            ("green", "teal"),
            ("amber", "blue", "green"),
            ("teal", "nowhere", "blue"),
            ("acme/amber", "green"),
        )
    ),
)
services = st.builds(
    lambda name, network, host_port, whom: service(name, network, host_port, **whom),
    st.sampled_from(("shop", "mail")),
    st.sampled_from((*NETWORKS, "nowhere", "acme/amber")),
    st.sampled_from((80, 81)),
    st.sampled_from(({"label": "web"}, {"label": "role=db"}, {"endpoints": ["e0", "e1", "e6"]}, {"endpoints": ["e3", "e4"]})),
)
captures = st.builds(
    capture,
    st.sampled_from(("all", "capture-1")),
    st.sampled_from(({"network": "amber", "endpoint": "e0"}, {"network": "blue", "endpoint": "e3"})),
    st.sampled_from(("h1", "h2")),
    st.sampled_from((4000, 4001, 7)),
)
hosts = st.builds(
    host,
    st.sampled_from(HOSTS),
    st.sampled_from(("198.18.0.11", "198.18.0.12", "198.18.0.13")),
    lists,
    st.sampled_from((None, "s1", "s2")),
)
_taken = st.sampled_from(
    (("10.0.0.0/25", "interface"), ("10.1.0.64/26", "route"), ("10.0.0.0/8", "route"), ("fd00:2::53/128", "dns"))
)
clusters = st.builds(cluster, st.sampled_from(("100.126.0.0/15", "198.18.0.0/15", "172.16.0.0/12")))
hostnets = st.builds(lambda name, taken: hostnet(name, *taken), st.sampled_from(HOSTS), st.lists(_taken, max_size=2))
networks = st.builds(
    network,
    st.sampled_from(NETWORKS),
    st.sampled_from((7, 8, 9, 10, 65_542, 7 ^ 1 << 23)),
    mostly,
    mostly,
    lists,
    lists,
    st.booleans(),
    st.sampled_from(("flat", "nat", "nat", "routed")),
    lists,
    st.booleans(),
    st.just(False),
    st.sampled_from((None, None, 1300, 1400)),
    st.booleans(),
    st.sampled_from((None, None, "far", "safe")),
    st.sampled_from((None, None, "acme", "acme/")),
)
profiles = st.builds(
    profile,
    st.sampled_from(PROFILES),
    st.sampled_from((("all",), ("h1", "h2"), ("site:s1", "h1"), ("h2", "h3"))),
    st.sampled_from(("auto", "always", "never")),
    st.sampled_from((0, 5000)),
)
# own addresses and MACs of some, the gateway, what several share, and ranges around them
allowed = st.just([]) | st.lists(
    st.sampled_from(
        (
            "10.0.0.100", "10.0.0.100,00:00:5e:00:01:0a", "10.0.0.0/30", "10.0.0.4", "10.0.0.4/30", "10.1.0.100,00:00:5e:00:01:0a",
            "10.9.0.0/24", "10.0.0.102,02:57:0a:00:00:05", "fd00::64", "fd00::64,00:00:5e:00:02:0a", "fd00::4", "fd00::60/123", "fe80::1",
        )
    ),
    max_size=2,
).filter(disjoint)  # fmt: skip
endpoints = st.builds(
    endpoint,
    st.sampled_from(ENDPOINTS),
    st.sampled_from(NETWORKS),
    st.sampled_from(HOSTS),
    st.integers(2, 8),
    st.integers(1, 7),
    mostly,
    mostly,
    mostly,
    st.none() | lists | st.sampled_from((("amber:web",), ("blue:base", "amber:db"))),
    st.sampled_from(({}, {"web": ""}, {"role": "db"})),
    st.sampled_from((None, [{"host_port": 80, "port": 80}], [{"host_port": "80-82", "port": "8000-8002", "proto": "udp"}])),
    mostly,
    st.just(False),
    allowed,
)
tags = st.sampled_from((10, 10, 20))
subports = st.one_of(
    st.builds(
        behind, st.sampled_from(ENDPOINTS), st.sampled_from(NETWORKS), st.sampled_from(HOSTS), st.integers(1, 6), st.just("tap0"),
        st.none() | tags, st.none() | st.sampled_from((10, 1000)), acls=lists,
    ),
    st.builds(
        inside, st.sampled_from(ENDPOINTS), st.sampled_from(NETWORKS), st.sampled_from(HOSTS), st.integers(2, 7), st.integers(1, 6),
        st.sampled_from(ENDPOINTS), tags, acls=lists,
    ),
)  # fmt: skip
malformed = st.sampled_from(
    (
        (keys.endpoint("amber", "e1"), "{"),
        (keys.network("blue"), '{"id": "blue"}'),
        (keys.host("h2"), '{"name": "h3", "vtep": "198.18.0.9"}'),
        (keys.acl("web"), '{"name": "web", "rules": [{"tcp_dst": 1}]}'),
        (keys.meter("slow"), "[]"),
        (keys.profile("far"), "[]"),
        (keys.tenant("default"), '{"name": "default", "acls": 7.5}'),
    )
)
# a switch gives a number to one port only
ports = st.builds(
    lambda names, numbers: dict(zip(names, numbers, strict=False)),
    st.lists(st.sampled_from(ENDPOINTS), unique=True),
    st.permutations(range(1, len(ENDPOINTS) + 1)),
)
BEGINNING = (
    *(host(name, f"198.18.0.1{name[1:]}") for name in HOSTS),
    network("amber", 7),
    network("blue", 8),
    acl("base", [{"actions": {"allow": 1}}]),
    acl("web", [{"from": {"label": "web"}, "to": {"label": "role=db"}, "allow_related": True}]),
    meter("slow", 100),
    endpoint("e0", "amber", "h1", 2, 1, acls=("web",)),
    *(endpoint(f"e{i}", NETWORKS[i // 2 % 2], HOSTS[i % 3], i + 2, i + 1) for i in range(1, 4)),
)
# the second loses to the first and would win against the third: the winner depends on all three
quarrels = st.permutations(ENDPOINTS).map(
    lambda names: [
        endpoint(names[0], "amber", "h1", 2, 1),
        endpoint(names[1], "amber", "h1", 2, 2),
        endpoint(names[2], "amber", "h1", 3, 2),
    ]
)
# a network whose addresses a server outside leases: two have the same, a third has none, and one that it had before is of no lease
leases = st.permutations(ENDPOINTS).map(
    lambda names: [
        network("amber", 7, v6=False, dhcp="external"),
        endpoint(names[0], "amber", "h1", 2, 1, v6=False, leased=True, acls=("web",)),
        endpoint(names[1], "amber", "h2", 2, 2, v6=False, leased=True),
        endpoint(names[2], "amber", "h1", 4, 3, v4=False, v6=False),
        endpoint(names[3], "amber", "h1", 5, 4, v6=False),
    ]
)
writes = st.one_of(
    endpoints,
    endpoints,
    endpoints,
    subports,
    acls,
    acls,
    networks,
    hosts | profiles,
    meters | tenants,
    malformed,
    mirrors | routers | services,
    captures,
)
