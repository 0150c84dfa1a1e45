"""netavark's plugin: what podman creates and sets up as calls of CNI's kind, wrong requests, and the program's part that needs no agent."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import tools.cni.plugin as plugin
from agent.cni.netavark import NetavarkCall, created, read, read_network, status_block
from specs.model.network import Network
from tests.depth import short_texts
from tests.e2e import cni_bodies as odd
from tests.e2e.odd_values import spoiled
from tests.waiting import LIMIT_S
from warren import __version__
from warren.errors import Invalid

PLUGIN = Path(plugin.__file__)
NETNS = "/run/netns/netns-1"
NETWORK = {
    "name": "amber", "id": "4e91", "driver": "warren", "created": "0001-01-01T00:00:00Z", "ipv6_enabled": False, "internal": False,
    "dns_enabled": True, "labels": {"a": "b"},
}  # fmt: skip
AMBER = Network(
    id="n1", name="amber", vxlan_vni=7, mode="nat", ip_range="10.0.0.0/24", gateway="10.0.0.1/24", ipv6_range="fd00::/64",
    ipv6_gateway="fd00::1/64",
)  # fmt: skip
PLAIN = Network(id="n2", name="plain", vxlan_vni=8, ip_range="10.1.0.0/24")


def setup(options: dict[str, Any] | None = None, command: str = "setup", network: Any = None, **more: Any) -> NetavarkCall:
    config = {
        "container_id": "e8b1", "container_name": "web", "port_mappings": None,
        "network": {**NETWORK, "subnets": None, "ipam_options": {"driver": "none"}, "routes": None, "network_dns_servers": None} | (network or {}),
        "network_options": {"aliases": None, "interface_name": "eth0", "static_ips": None, "static_mac": None, "options": None} | (options or {}),
    }  # fmt: skip
    return NetavarkCall(command=command, netns=NETNS, config={**config, **more})


def create(network: Network = AMBER, mtu: int = 1446, **more: Any) -> dict[str, Any]:
    config = {**NETWORK, **more}
    requested, _, _ = read_network(config)
    return created(config, requested, network, mtu)


def test_a_setup_becomes_an_add() -> None:
    request = read(setup())
    assert (request.command, request.name, request.container, request.interface, request.netns, request.endpoint_name) == (
        "ADD", "amber", "e8b1", "eth0", NETNS, "web",
    )  # fmt: skip
    assert (request.network, request.network_source, dict(request.fields)) == ("amber", "network.name", {"labels": {}})


def test_what_podman_requests_for_a_container() -> None:
    """Addresses, MAC, aliases, ports (ranges, several protocols, each once), the network's options, and over them the container's."""
    ports = [
        {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1},
        {"container_port": 80, "host_ip": "0.0.0.0", "host_port": 8080, "protocol": "TCP", "range": 0},
        {"container_port": 53, "host_ip": "192.0.2.9", "host_port": 1053, "protocol": "udp,tcp", "range": 1},
        {"container_port": 7000, "host_ip": "", "host_port": 9000, "protocol": "", "range": 3},
    ]
    options = {
        "static_ips": ["10.0.0.9", "fd00::9"], "static_mac": "02:00:00:00:00:07", "aliases": ["db", "e8b1", "db"],
        "options": {"labels": "tier=2", "acls": ""},
    }  # fmt: skip
    network = {
        "options": {"network": "other", "labels": "role=web,tier=1", "acls": "wall,door", "mtu": "1446", "socket": "/run/a.sock"}
    }
    request = read(setup(options, network=network, port_mappings=ports))
    fields = dict(request.fields)
    published = [way.model_dump(mode="json", exclude_none=True) for way in fields.pop("publish")]
    assert published == [
        {"host_port": 8080, "port": 80, "proto": "tcp"},
        {"host_port": 1053, "port": 53, "proto": "udp", "host_ip": "192.0.2.9"},
        {"host_port": 1053, "port": 53, "proto": "tcp", "host_ip": "192.0.2.9"},
        {"host_port": "9000-9002", "port": "7000-7002", "proto": "tcp"},
    ]
    assert fields == {
        "ipv4_address": "10.0.0.9", "ipv6_address": "fd00::9", "mac_address": "02:00:00:00:00:07", "aliases": ("db", "e8b1"),
        "labels": {"role": "web", "tier": "2"}, "acls": (),
    }  # fmt: skip
    assert (request.network, request.network_source) == ("other", "network.options.network")
    request.demands.check(AMBER, 1446)
    with pytest.raises(Invalid, match="port_mappings: '8080, 8080, 1053, 9000': expected a network in mode nat; plain is flat"):
        request.demands.check(PLAIN, 1446)
    with pytest.raises(Invalid, match="network.options.mtu: 1446: expected nothing or 1400"):
        request.demands.check(AMBER, 1400)
    assert read(setup(network=network)).fields["acls"] == ("wall", "door")


def test_a_teardown_ignores_mistakes_elsewhere() -> None:
    wrong = {"options": {"vlan": "7"}, "subnets": "x"}
    request = read(setup({"static_ips": ["x"]}, "teardown", wrong, port_mappings=7))
    assert (request.command, request.name, request.container, request.interface) == ("DEL", "amber", "e8b1", "eth0")


def test_create_leaves_addresses_to_warren() -> None:
    """All hosts share the network: podman's own allocation would give an address twice."""
    kept = {**NETWORK, "subnets": [], "ipam_options": {"driver": "none"}, "dns_enabled": False}
    assert create() == kept
    subnets = [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, {"subnet": "fd00::/64"}]
    assert create(subnets=subnets, ipv6_enabled=True) == {**kept, "ipv6_enabled": True}
    assert create(PLAIN, internal=True, options={"network": "plain"})["options"] == {"network": "plain"}
    assert create(options=None, subnets=None, ipam_options=None, routes=[], network_dns_servers=[])["subnets"] == []


@pytest.mark.parametrize(
    ("network", "more", "message"),
    [
        (AMBER, {"subnets": [{"subnet": "10.9.0.0/24"}]}, "network.subnets[0].subnet: '10.9.0.0/24': expected 10.0.0.0/24 or fd00::/64"),
        (AMBER, {"subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.2"}]}, "network.subnets[0].gateway: '10.0.0.2': expected 10.0.0.1"),
        (AMBER, {"subnets": [{"subnet": "10.0.0.0/24", "lease_range": {"start_ip": "10.0.0.5"}}]}, "network.subnets[0].lease_range"),
        (AMBER, {"subnets": [{"subnet": "ten"}]}, "network.subnets[0].subnet"),
        (PLAIN, {"subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}]}, "gateway: '10.1.0.1': expected nothing"),
        (AMBER, {"ipam_options": {"driver": "dhcp"}}, "network.ipam_options.driver: 'dhcp': expected none"),
        (AMBER, {"internal": True}, "network.internal: true: expected false: amber is in mode nat"),
        (PLAIN, {"ipv6_enabled": True}, "network.ipv6_enabled: true: expected false: plain has no ipv6_range"),
        (AMBER, {"network_interface": "br7"}, "network.network_interface: 'br7': expected nothing"),
        (AMBER, {"routes": [{"destination": "10.9.0.0/16", "gateway": "10.0.0.9"}]}, "network.routes"),
        (AMBER, {"network_dns_servers": ["192.0.2.1"]}, "network.network_dns_servers"),
        (AMBER, {"options": {"vlan": "7"}}, "network.options.vlan: there is no such field"),
        (AMBER, {"options": {"mtu": "9000"}}, "network.options.mtu: 9000: expected nothing or 1446"),
        (AMBER, {"options": {"mtu": "big"}}, "network.options.mtu: 'big'"),
        (AMBER, {"options": {"labels": "web"}}, "network.options.labels: 'web': expected members such as role=web"),
        (AMBER, {"options": {"acls": "a b"}}, "network.options.acls[0]: 'a b'"),
        (AMBER, {"options": {"network": "a b"}}, "network.options.network: 'a b'"),
        (AMBER, {"options": "vlan=7"}, "network.options: 'vlan=7': expected a mapping"),
        (AMBER, {"name": ""}, "network.name: ''"),
    ],
)  # fmt: skip
def test_create_refuses_what_warren_would_not_carry_out(network: Network, more: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        create(network, **more)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (setup(container_id="a/b"), "container_id: 'a/b'"),
        (setup({"interface_name": ""}), "network_options.interface_name: ''"),
        (setup({"static_ips": ["ten"]}), "network_options.static_ips[0]: 'ten': expected an address"),
        (setup({"static_ips": ["10.0.0.1", "10.0.0.2"]}), "network_options.static_ips: '10.0.0.1, 10.0.0.2': expected at most one"),
        (setup({"static_mac": "x"}), "network_options.static_mac: 'x': expected a MAC"),
        (setup({"aliases": ["a b"]}), "network_options.aliases[0]: 'a b'"),
        (setup({"options": {"vlan": "7"}}), "network_options.options.vlan: there is no such field"),
        (setup(network={"options": {"isolate": "true"}}), "network.options.isolate: there is no such field"),
        (setup(network={"routes": [{"destination": "10.9.0.0/16"}]}), "network.routes"),
        (setup(port_mappings=[{"host_port": 0, "container_port": 1}]), "port_mappings[0].host_port: 0"),
        (setup(port_mappings=[{"host_port": 1, "container_port": 1, "protocol": "tcp,icmp"}]), "port_mappings[0].protocol: 'tcp,icmp'"),
        (setup(port_mappings=[{"host_port": 1, "container_port": 1, "host_ip": "x"}]), "port_mappings[0].host_ip: 'x'"),
        (setup(port_mappings=[{"host_port": 65535, "container_port": 1, "range": 2}]), "port_mappings[0].host_port: '65535-65536'"),
        (setup(port_mappings=[{"host_port": 1, "container_port": 1, "range": -1}]), "port_mappings[0].range: -1"),
        (NetavarkCall(command="setup", config=[]), "expected a mapping"),
        (NetavarkCall(command="teardown", config={"container_id": "a"}), "network is missing"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_setup_is_refused_with_its_path(wrong: NetavarkCall, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SCALARS = st.sampled_from([None, True, 0, -1, 2**70, "", "eth0", "10.0.0.9", "amber", "a=b"]) | short_texts
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(short_texts, SCALARS, max_size=2)


def parts(*names: str) -> st.SearchStrategy[Any]:
    return JSON | st.dictionaries(st.sampled_from(names), JSON | st.lists(JSON, max_size=2), max_size=4)


@given(
    st.sampled_from(["create", "setup", "teardown"]),
    parts("name", "options", "subnets", "ipam_options", "routes"),
    parts("interface_name", "static_ips", "static_mac", "aliases", "options"),
    parts("host_port", "container_port", "protocol", "range", "host_ip"),
)
def test_any_request_is_accepted_or_refused_with_a_path(command: Any, network: Any, options: Any, ports: Any) -> None:
    config = {"container_id": "c1", "network": network, "network_options": options, "port_mappings": [ports]}
    with contextlib.suppress(Invalid):  # no other error
        if command == "create":
            requested, _, _ = read_network(network)
            created(network, requested, AMBER, 1446)
        else:
            read(NetavarkCall(command=command, config=config))


def test_a_status_block() -> None:
    result = {
        "interfaces": [{"name": "wv1", "mac": "fe:00:00:00:00:01"}, {"name": "eth0", "mac": "02:57:0a:00:00:02", "sandbox": NETNS}],
        "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1}, {"address": "fd00::2/64", "interface": 1}],
        "dns": {"nameservers": ["192.0.2.53"], "domain": "example.org"},
    }  # fmt: skip
    subnets = [{"ipnet": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"ipnet": "fd00::2/64"}]
    assert status_block(result, "eth0") == {
        "dns_search_domains": ["example.org"],
        "dns_server_ips": ["192.0.2.53"],
        "interfaces": {"eth0": {"mac_address": "02:57:0a:00:00:02", "subnets": subnets}},
    }
    assert status_block({**result, "ips": [], "dns": {}}, "eth0") == {
        "dns_search_domains": [], "dns_server_ips": [], "interfaces": {"eth0": {"mac_address": "02:57:0a:00:00:02", "subnets": []}},
    }  # fmt: skip


# ---- the program -------------------------------------------------------------------------------------------------------


def run(*words: str, text: str = "", **environment: str) -> tuple[int, str]:
    """The plugin as netavark starts it: the file alone, with Python's own library."""
    command = [sys.executable, "-I", PLUGIN, *words]
    variables = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, input=text, env=variables, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_info_needs_no_agent() -> None:
    assert run("info") == (0, json.dumps({"version": __version__, "api_version": "1.0.0"}) + "\n")


@pytest.mark.parametrize("words", [("setup",), ("create", NETNS), ("teardown", NETNS, "more"), ("info", "more")])
def test_wrong_words_get_the_help(words: tuple[str, ...]) -> None:
    code, text = run(*words)
    assert (code, "warren-netavark create" in text) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"network": {"options": {"socket": "here"}}}', "network.options.socket: 'here': expected the path"),
        ('{"network": {"options": {"socket": "/nowhere/a.sock"}}}', "does not listen on /nowhere/a.sock"),
        ("[]", "does not listen on /nowhere/b.sock"),
        ('{"network": {"options": 7}}', "does not listen on /nowhere/b.sock"),
    ],
)
def test_errors_are_netavarks(text: str, message: str) -> None:
    code, answer = run("setup", NETNS, text=text, WARREN_SOCKET="/nowhere/b.sock")
    assert (code, list(json.loads(answer)), message in json.loads(answer)["error"]) == (1, ["error"], True)


def test_create_finds_the_socket_in_the_networks_options() -> None:
    code, answer = run("create", text='{"options": {"socket": "/nowhere/c.sock"}}')
    assert (code, "does not listen on /nowhere/c.sock" in json.loads(answer)["error"]) == (1, True)


@pytest.mark.filterwarnings("ignore:__int__ returned")  # pydantic tries true as the number of an address
def test_any_odd_call_is_accepted_or_refused_with_its_path() -> None:
    chance = random.Random(3)
    for _ in range(1500):
        for command in odd.NETAVARK:
            body = spoiled(chance, odd.netavark(command, "/run/netns/c1"))
            with contextlib.suppress(Invalid, ValidationError):
                call = NetavarkCall.model_validate(body)
                read_network(call.config) if call.command == "create" else read(call)
