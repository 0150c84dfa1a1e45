"""Named example systems, as YAML-like specs, for golden files, documents and the tests on a real switch."""

from __future__ import annotations

from intent.recompute import view
from intent.views import View
from mirror.sessions import collector_port
from pipeline.tables import RESOLVER_PORT
from pipeline.tunnels import tunnel_port
from specs.ports import is_subport
from specs.snapshot import snapshot
from tests.unit import worlds

TUNNEL = 65279
UPLINK = 65278

HOSTS = [worlds.host(f"h{i}", f"198.18.0.{10 + i}") for i in (1, 2, 3)]

SCENARIOS: dict[str, list[tuple[str, str]]] = {
    # two networks with one subnet: web-1 and web-2 on two hosts, and strangers with the same addresses
    "two-networks": [
        *HOSTS,
        worlds.network("amber", 7, v6=False),
        worlds.network("blue", 8, v6=False),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False),
        worlds.endpoint("db-1", "blue", "h1", 2, 2, v6=False),
        worlds.endpoint("db-3", "blue", "h3", 3, 1, v6=False),
    ],
    "dual-stack": [
        *HOSTS,
        worlds.network("amber", 7),
        worlds.endpoint("web-1", "amber", "h1", 2, 1),
        worlds.endpoint("web-2", "amber", "h2", 3, 1),
    ],
    # the underlay is IPv6
    "ipv6-underlay": [
        *(worlds.host(f"h{i}", f"fd98::{i}") for i in (1, 2, 3)),
        worlds.network("amber", 7, v6=False),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False),
        worlds.mirror("all", [{"network": "amber", "endpoint": "web-2"}], {"network": "amber", "endpoint": "web-1"}),
    ],
    "no-range": [
        *HOSTS,
        worlds.network("wire", 9, v4=False, v6=False),
        worlds.endpoint("a", "wire", "h1", 2, 1, v4=False, v6=False),
        worlds.endpoint("b", "wire", "h2", 3, 1, v4=False, v6=False),
    ],
    # web-1 and web-3 may ask both databases; the databases may answer, and nobody may send them anything but that
    "policy": [
        *HOSTS,
        worlds.meter("slow", 1000),
        worlds.acl(
            "web",
            [
                {"dl_type": 0x806, "actions": {"allow": 1}},
                {
                    "from": {"label": "web"},
                    "to": {"label": "role=db"},
                    "proto": "tcp",
                    "tcp_dst": [5432, "6000-6001"],
                    "allow_related": True,
                },
                {"dl_type": 0x800, "nw_proto": 17, "udp_dst": 53, "actions": {"allow": 1, "meter": "slow"}},
            ],
        ),
        worlds.acl("quiet", [{"dl_type": 0x800, "nw_dst": "10.0.0.0/25", "actions": {"allow": 0}}, {"actions": {"allow": 1}}]),
        worlds.network("amber", 7, v6=False, out=("quiet",)),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False, acls=("web",), labels={"web": ""}),
        worlds.endpoint("web-3", "amber", "h3", 3, 1, v6=False, acls=("web",), labels={"web": ""}),
        worlds.endpoint("db-2", "amber", "h2", 4, 1, v6=False, labels={"role": "db"}),
        worlds.endpoint("db-3", "amber", "h3", 5, 2, v6=False, labels={"role": "db"}),
        worlds.endpoint("lost", "amber", "h1", 6, 3, v6=False, acls=("nowhere",)),
    ],
    # amber reaches the outside translated, blue as it is; web-1 is published
    "ways-out": [
        *HOSTS,
        worlds.acl(
            "door",
            [
                {"proto": "tcp", "tcp_dst": 80, "allow_related": True},
                {"dl_type": 0x800, "nw_src": "192.0.2.0/24", "actions": {"allow": 0}},
            ],
        ),
        worlds.network("amber", 7, mode="nat", nat=("door",)),
        worlds.network("blue", 8, v6=False, mode="routed"),
        worlds.endpoint(
            "web-1",
            "amber",
            "h1",
            2,
            1,
            publish=[{"host_port": "8080-8081", "port": "80-81"}, {"host_port": 53, "port": 53, "proto": "udp"}],
        ),
        worlds.endpoint("web-2", "amber", "h2", 3, 1),
        worlds.endpoint("db-1", "blue", "h1", 2, 2, v6=False),
        worlds.endpoint("db-2", "blue", "h2", 3, 2, v6=False),
    ],
    # name servers of two networks with one subnet, one of them without a gateway
    "names": [
        *HOSTS,
        worlds.network("amber", 7, mode="nat", named=True),
        worlds.network("blue", 8, v6=False, named=True),
        worlds.endpoint("web-1", "amber", "h1", 2, 1),
        worlds.endpoint("web-2", "amber", "h2", 3, 1),
        worlds.endpoint("db-1", "blue", "h1", 2, 2, v6=False),
    ],
    # a router between two networks, each with one member on another host
    "joined": [
        *HOSTS,
        worlds.network("amber", 7, v6=False, mode="nat"),
        worlds.network("green", 9, v6=False, mode="nat"),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("api-2", "green", "h2", 2, 1, v6=False),
        worlds.router("core", "amber", "green"),
    ],
    # green has a smaller MTU than amber and teal, so the gateway reports packets that are too large; teal tracks connections
    "narrow": [
        *HOSTS,
        worlds.acl("ask", [{"proto": "tcp", "tcp_dst": 80, "allow_related": True}]),
        worlds.network("amber", 7, mode="nat"),
        worlds.network("green", 9, mode="nat", mtu=1300),
        worlds.network("teal", 10, v6=False, mode="nat", mtu=1400, default=("ask",)),
        worlds.endpoint("web-1", "amber", "h1", 2, 1),
        worlds.endpoint("api-2", "green", "h2", 2, 1),
        worlds.endpoint("db-1", "teal", "h1", 2, 2, v6=False),
        worlds.router("core", "amber", "green"),
        worlds.router("rim", "green", "teal"),
    ],
    # connections are tracked: core leads from amber to green and back; web may ask api, which may answer. h2 has no member of green, h3 none of amber
    "routed": [
        *HOSTS,
        worlds.acl("ask", [{"to": {"network": "green"}, "proto": "tcp", "tcp_dst": 80, "allow_related": True}]),
        worlds.acl("quiet", [{"proto": "icmp", "actions": {"allow": 1}}]),
        worlds.network("amber", 7, mode="nat", default=("ask",)),
        worlds.network("green", 9, mode="routed", default=("quiet",)),
        worlds.endpoint("web-1", "amber", "h1", 2, 1),
        worlds.endpoint("api-1", "green", "h1", 2, 2),
        worlds.endpoint("web-2", "amber", "h2", 3, 1),
        worlds.endpoint("api-3", "green", "h3", 3, 1),
        worlds.router("core", "amber", "green"),
    ],
    # port 8080 of h1 and h2 leads to web-1 and web-2; h3 has no endpoint of amber
    "service": [
        *HOSTS,
        worlds.network("amber", 7, v6=False, mode="nat"),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False, labels={"web": ""}),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False, labels={"web": ""}),
        worlds.service("shop", "amber", 8080, label="web"),
    ],
    # the same over an underlay of IPv6: each host has its own flows for answers
    "service-ipv6": [
        *(worlds.host(f"h{number}", f"fd99::1{number}") for number in (1, 2, 3)),
        worlds.network("amber", 7, v6=False, mode="nat"),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False, labels={"web": ""}),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False, labels={"web": ""}),
        worlds.service("shop", "amber", 8080, label="web"),
    ],
    # all that web-1 and web-2 send and receive by TCP port 80 goes to the analyser of h3, cut and tagged; amber to a collector
    "mirrored": [
        *HOSTS,
        worlds.network("amber", 7, v6=False),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False),
        worlds.endpoint("ids", "amber", "h3", 4, 1, v6=False),
        worlds.mirror(
            "suspects",
            [{"network": "amber", "endpoint": "web-1"}, {"network": "amber", "endpoint": "web-2"}],
            {"network": "amber", "endpoint": "ids"},
            match={"proto": "tcp", "tcp_dst": 80},
            vlan=356,
            snap=128,
        ),
        worlds.mirror("all", [{"network": "amber"}], {"gre": "192.0.2.9"}, direction="in", vni=4001),
    ],
    # amber's endpoints ask the controller for their addresses; blue has a gateway and IPv4 alone, and an uplink
    "dhcp": [
        *HOSTS,
        worlds.network("amber", 7, dhcp=True),
        worlds.network("blue", 8, v6=False, mode="nat", dhcp=True),
        worlds.endpoint("web-1", "amber", "h1", 2, 1),
        worlds.endpoint("web-2", "amber", "h2", 3, 1),
        worlds.endpoint("db-1", "blue", "h1", 2, 2, v6=False),
        worlds.behind("uplink", "blue", "h1", 9, "eno1"),
    ],
    # amber's server is behind eno1 of h1: web-1 and web-2 have leased their addresses, web-3 asks
    "dhcp-external": [
        *HOSTS,
        worlds.acl("web", [{"proto": "tcp", "tcp_dst": 80, "actions": {"allow": 1}}]),
        worlds.network("amber", 7, v6=False, dhcp="external"),
        worlds.behind("lan", "amber", "h1", 1, "eno1"),
        worlds.endpoint("web-1", "amber", "h1", 2, 2, v6=False, leased=True, acls=("web",)),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False, leased=True),
        worlds.endpoint("web-3", "amber", "h1", 4, 3, v4=False, v6=False),
    ],
    # tagged frames of containers pass as they are, many VLANs inside one VNI
    "transparent": [
        *HOSTS,
        worlds.network("amber", 7, v6=False, transparent=True),
        worlds.endpoint("one", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("two", "amber", "h2", 3, 1, v6=False),
    ],
    # machines behind eno1 of h1 (blue under tag 20) and eno3 of h3; router's container is on amber, and under tag 100 on blue
    "shared-ports": [
        *HOSTS,
        worlds.network("amber", 7, v6=False),
        worlds.network("blue", 8, v6=False),
        worlds.behind("lan-1", "amber", "h1", 1, "eno1"),
        worlds.behind("lan-2", "blue", "h1", 2, "eno1", 20),
        worlds.behind("lan-3", "amber", "h3", 1, "eno3"),
        worlds.endpoint("router", "amber", "h1", 2, 3, v6=False),
        worlds.inside("inner", "blue", "h1", 2, 4, "router", 100, v6=False),
        worlds.endpoint("far", "blue", "h2", 3, 1, v6=False),
    ],
    # what fun0 sends passes its ACL; fun2 has none, and the last of the ports is beyond the last VLAN id
    "coprocessor": [
        *HOSTS,
        worlds.network("amber", 7, v6=False),
        worlds.acl("only-ip", [{"dl_type": 0x800, "actions": {"allow": 1}}, {"actions": {"allow": 0}}]),
        worlds.behind("function-1", "amber", "h1", 9, "fun0", coprocessor=1000, acls=("only-ip",)),
        worlds.endpoint("left", "amber", "h1", 2, 3, v6=False),
        worlds.endpoint("right", "amber", "h1", 3, 4, v6=False),
        worlds.behind("function-2", "amber", "h2", 9, "fun2", coprocessor=4090),
        worlds.endpoint("near", "amber", "h2", 5, 4, v6=False),
        worlds.endpoint("beyond", "amber", "h2", 4, 5, v6=False),
    ],
    # web-1 and web-2 share 10.0.0.100 and fd00::64 with the MACs of a virtual router, and 10.0.0.101 without; containers inside web-1 have 10.9.1.0/24
    "allowed": [
        *HOSTS,
        worlds.network("amber", 7, mode="nat"),
        worlds.network("green", 9, v6=False, mode="routed"),
        worlds.router("core", "amber", "green"),
        worlds.endpoint(
            "web-1",
            "amber",
            "h1",
            2,
            1,
            allowed=["10.0.0.100,00:00:5e:00:01:0a", "fd00::64,00:00:5e:00:02:0a", "10.0.0.101", "10.9.1.0/24"],
        ),
        worlds.endpoint(
            "web-2", "amber", "h2", 3, 1, allowed=["10.0.0.100,00:00:5e:00:01:0a", "fd00::64,00:00:5e:00:02:0a", "10.0.0.101"]
        ),
        worlds.endpoint("api-3", "green", "h3", 2, 1, v6=False, allowed=["10.1.0.100"]),
    ],
    # one VNI and one subnet in two profiles: amber's packets are plain, blue's are encrypted, and h3 is not in blue's profile
    "profiles": [
        *(worlds.host(f"h{i}", f"198.18.0.{10 + i}", site="s1") for i in (1, 2, 3)),
        worlds.profile("far"),
        worlds.profile("safe", ("h1", "h2"), "always", port=14790),
        worlds.network("amber", 7, v6=False, profile="far"),
        worlds.network("blue", 7, v6=False, mode="nat", profile="safe"),
        worlds.endpoint("web-1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("web-2", "amber", "h2", 3, 1, v6=False),
        worlds.endpoint("db-1", "blue", "h1", 2, 2, v6=False),
        worlds.endpoint("db-2", "blue", "h2", 3, 2, v6=False),
        worlds.endpoint("db-3", "blue", "h3", 4, 2, v6=False),
    ],
    # second has first's MAC: it is closed everywhere
    "conflict": [
        *HOSTS,
        worlds.network("amber", 7, v6=False),
        worlds.endpoint("first", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("second", "amber", "h2", 2, 1, v6=False),
        worlds.endpoint("third", "amber", "h2", 3, 2, v6=False),
    ],
}


def view_of(scenario: str, host: str) -> View:
    """The view of one host, with all its ports there."""
    state = snapshot((key, value, born) for born, (key, value) in enumerate(SCENARIOS[scenario], start=1))
    local = [e for e in state.endpoints.values() if e.host == host]
    ports = {e.id: e.ofport for e in local if not is_subport(e)}
    interfaces = {collector_port(mirror): 4096 for mirror in state.mirrors.values()}
    interfaces |= {RESOLVER_PORT: 4097}
    interfaces |= {tunnel_port(profile.number): 4100 + profile.number for profile in state.profiles.values()}
    interfaces |= {e.port: 8 for e in local if e.port is not None}
    return view(state, host, ports, TUNNEL, UPLINK, interfaces, frozenset(state.hosts))
