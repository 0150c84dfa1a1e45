"""Pure parts of the Docker driver: options, port maps, and answers to malformed calls."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.docker import mac
from agent.docker.bodies import check
from agent.docker.engine import Container, Engine
from agent.docker.labels import described
from agent.docker.ledger import LABEL
from agent.docker.options import (
    ENDPOINT_OPTIONS,
    MIRRORED,
    NETWORK_OPTIONS,
    OWN_CHOICE,
    named_network,
    options_among,
    published,
    read,
)
from agent.docker.request import parse
from agent.docker.server import answer_to
from agent.docker.sweep import DockerSweep, lost
from agent.linux import processes
from agent.listeners import Listeners
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from tests.waiting import LIMIT_S
from warren.errors import Invalid

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "docker.md"


def rows() -> list[str]:
    return [
        f"| {', '.join(f'`{name}`' for name in option.names)} | {option.meaning} |"
        for option in (*NETWORK_OPTIONS, *ENDPOINT_OPTIONS)
    ]


def test_the_document_lists_every_option(update_golden: bool) -> None:
    if update_golden:
        kept = [line for line in DOCUMENT.read_text().splitlines() if not line.startswith("| `")]
        for table in (NETWORK_OPTIONS, ENDPOINT_OPTIONS):
            at = kept.index("|---|---|", 0 if table is NETWORK_OPTIONS else kept.index("|---|---|") + 1) + 1
            lines = [row for row, option in zip(rows(), (*NETWORK_OPTIONS, *ENDPOINT_OPTIONS), strict=True) if option in table]
            kept[at:at] = lines
        DOCUMENT.write_text("\n".join(kept) + "\n")
    assert [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")] == rows()


def test_every_option_meets_a_real_engine_in_some_test() -> None:
    """Each under one of its names at least, quoted or as OPTION=VALUE."""
    texts = "".join(path.read_text() for path in (DOCUMENT.parent.parent / "tests" / "e2e").glob("test_docker*.py"))
    options = (*NETWORK_OPTIONS, *ENDPOINT_OPTIONS)
    assert [o.names for o in options if not any(re.search(rf"\b{name}(=|\")", texts) for name in o.names)] == []


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"ovs.bridge.mode": "NAT", "ovs.bridge.dpid": "0x1", "warren.mode": "nat"}, {"mode": "nat"}),
        ({"warren.default_acl": "a,b", "ovs.bridge.mtu": "1400"}, {"default_acl": ["a", "b"], "mtu": 1400}),
        ({"ovs.bridge.dhcp": "True", "ovs.bridge.mode": "flat"}, {"dhcp": "external", "mode": "flat"}),
        ({"ovs.bridge.nat_acl": "net:door/net2:wall"}, {"nat_acl": ["net:door", "net2:wall"]}),
        ({"ovs.bridge.preallocate_ports": "7", "ovs.bridge.dhcp": "false", "warren.network": "amber"}, {"preallocate": 7}),
        (
            {"ovs.bridge.add_ports": "eno1/8/wall/20,eno2,eno3///30"},
            {
                "add_ports": [
                    {"port": "eno1", "ofport": 8, "acls": ["wall"], "native": 20},
                    {"port": "eno2"},
                    {"port": "eno3", "native": 30},
                ]
            },
        ),
    ],
)
def test_options_set_fields(given: dict[str, Any], fields: dict[str, Any]) -> None:
    assert read(NETWORK_OPTIONS, given) == fields


@pytest.mark.parametrize(
    "given",
    [
        {"ovs.bridge.mode": "bridge"}, {"ovs.bridge.vlan": "ten"}, {"ovs.bridge.dhcp": "external"}, {"ovs.bridge.preallocate_ports": "ten"},
        {"ovs.bridge.add_ports": "eth1/eight"}, {"ovs.bridge.add_ports": "/8"}, {"ovs.bridge.add_ports": "eth1/8/wall/20/more"}, {"warren.labels": "yes"}, {"warren.colour": "red"}, {"ovs.bridge.default_acl": "a,,b"},
    ],
)  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_it(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(given)).replace(".", r"\.")):
        read(NETWORK_OPTIONS, given)


def test_a_network_is_named_by_warrens_or_sands_option() -> None:
    assert named_network({"warren.network": "amber"}) == named_network({"sand-id": "amber"}) == "amber"
    assert named_network({"ovs.bridge.mode": "flat"}) is None


def test_port_maps() -> None:
    entries = [
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080},
        {"Proto": 17, "IP": "", "Port": 53, "HostIP": "192.0.2.1", "HostPort": 5353, "HostPortEnd": 5353},
    ]
    assert published({"com.docker.network.portmap": entries}) == [
        (range(8080, 8081), {"port": 80, "proto": "tcp"}),
        (range(5353, 5354), {"port": 53, "proto": "udp", "host_ip": "192.0.2.1"}),
    ]
    assert published({}) == []
    for host, last, candidates in ((0, 0, OWN_CHOICE), (8000, 8010, range(8000, 8011))):
        entry = {"Proto": 6, "Port": 80, "HostPort": host, "HostPortEnd": last}
        assert published({"com.docker.network.portmap": [entry]})[0].candidates == candidates


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"dovesnap.faucet.portacl": "a,b"}, {"acls": ("a", "b")}),
        ({"dovesnap.faucet.portacl": "testnet:a/other:b"}, {"acls": ("a",)}),
        ({"dovesnap.faucet.portacl": "a/testnet:b"}, {"acls": ("b",)}),  # the last one that fits
        ({"dovesnap.faucet.portacl": "other:b"}, {"acls": None}),  # then the network's default_acl counts
        ({"warren.acl": "amber:a"}, {"acls": ("a",)}),
        ({"dovesnap.faucet.mirror": "true"}, {"mirrored": True}),
        ({"dovesnap.faucet.mirror": "testnet:true/other:false"}, {"mirrored": True}),
        ({"warren.mirror": "other:true"}, {"mirrored": False}),
        ({"warren.mirror": "False"}, {"mirrored": False}),
        ({"dovesnap.faucet.mac_prefix": "0E:99"}, {"mac_address": "0e:99:0a:00:00:02"}),
        ({"warren.mac_prefix": "testnet:0e:99:01/other:0a"}, {"mac_address": "0e:99:01:00:00:02"}),
        ({"warren.mac_prefix": "02:00:00:00:01"}, {"mac_address": "02:00:00:00:01:02"}),
        ({}, {"acls": None, "mirrored": False, "mac_address": "02:57:0a:00:00:02", "name": "web", "labelled": True}),
    ],
)
def test_labels_of_a_container(labels: dict[str, str], expected: dict[str, Any]) -> None:
    network = Network(id="n-1", name="amber", vxlan_vni=7)
    before = Endpoint(
        id="e", network_id="n-1", host="h1", mac_address="02:57:0a:00:00:02", ofport=1, labels={LABEL: "d"}, labelled=False
    )
    after = described(before, network, Container("web", {**labels, "role": "db"}, "testnet"), "h1")
    assert (after.labels["role"], after.labels[LABEL]) == ("db", "d")
    assert after.labels.get(MIRRORED) in (None, "h1")
    seen = {**after.model_dump(), "acls": after.acls, "mirrored": MIRRORED in after.labels}
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    "labels",
    [{"warren.mac_prefix": "0f:99"}, {"warren.mac_prefix": "0e:99:0"}, {"warren.mirror": "maybe"}, {"warren.mirorr": "1"}],
)
def test_a_wrong_label_is_an_error(labels: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        read(ENDPOINT_OPTIONS, labels, ("net",))


class Refusing:
    """A driver whose only call refuses."""

    def __init__(self) -> None:
        self.calls = {"NetworkDriver.Join": self.join, "NetworkDriver.Leave": self.leave}

    def join(self, body: Any) -> dict[str, Any]:
        raise Invalid("-p", "80", "mode nat")

    def leave(self, body: Any) -> dict[str, Any]:
        return {"asked": body["EndpointID"]}


@pytest.mark.parametrize(
    ("name", "body", "status", "text"),
    [
        ("NetworkDriver.Join", b"{}", 200, "-p: '80': expected mode nat"),
        (
            "NetworkDriver.Join",
            b"",
            200,
            "empty request body (Docker retried a call during an agent restart)",
        ),  # what engines send after the plugin has died in the middle
        ("NetworkDriver.Join", b"[1]", 200, "JSON object"),
        ("NetworkDriver.Join", b"{", 200, "malformed request"),
        ("NetworkDriver.Leave", b"{}", 200, "EndpointID"),
        ("NetworkDriver.Nothing", b"{}", 404, "no such call"),
    ],
)
def test_errors_are_reported_in_both_plugin_protocols(name: str, body: bytes, status: int, text: str) -> None:
    code, answer = answer_to(Refusing(), name, body)  # type: ignore[arg-type]
    assert code == status
    assert answer["Err"] == answer["Error"]
    assert text in answer["Err"]


@pytest.mark.parametrize(
    "body",
    [{"Options": []}, {"Options": {"com.docker.network.portmap": [{"Proto": 7, "Port": 80}]}}, {"NetworkID": "../etc"}, {"NetworkID": 1},
     {"SandboxKey": "\0"}, {"IPv4Data": {"Pool": "x"}}, {"IPv4Data": [None]}, {"Interface": "x"}, {"V6": "no"}, {"PoolID": "x" * 5000},
     {"Options": {"com.docker.network.generic": {"warren.mode": ["nat"]}}}, {"IPv6Data": [{"AuxAddresses": []}]}],
)  # fmt: skip
def test_a_body_of_another_shape_is_refused_before_anything_reads_it(body: dict[str, Any]) -> None:
    code, answer = answer_to(Refusing(), "NetworkDriver.Leave", json.dumps({"EndpointID": "e"} | body).encode())  # type: ignore[arg-type]
    assert code == 200
    assert answer["Err"].startswith("request."), answer


def test_bodies_of_every_engine_have_the_shape() -> None:
    """As 20.10 and 28.5 send them, with fields that nobody reads."""
    bodies: list[dict[str, Any]] = [
        {"NetworkID": "a" * 64, "Options": {"com.docker.network.enable_ipv4": True, "com.docker.network.generic": {"mode": "flat"},
         "com.docker.network.internal": True}, "IPv4Data": [{"AddressSpace": "s", "AuxAddresses": {"r": "10.77.0.2/16"}, "Gateway": "10.77.0.1/16",
         "Pool": "10.77.0.0/16"}], "IPv6Data": []},
        {"NetworkID": "a" * 64, "EndpointID": "b" * 64, "Interface": {"Address": "10.81.0.77/24", "AddressIPv6": "", "MacAddress": ""},
         "Options": {"com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 443}], "com.docker.network.endpoint.macaddress": "AkKqu8zd",
         "com.docker.network.portmap": [{"Proto": 17, "IP": "", "Port": 53, "HostIP": "127.0.0.1", "HostPort": 5353, "HostPortEnd": 5353}]}},
        {"PoolID": "pool6-x/fd00::/80", "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"}},
        {"AddressSpace": "s", "Pool": "", "SubPool": "", "Options": None, "V6": False},
    ]  # fmt: skip
    for body in bodies:
        check(body)


def test_endpoints_that_the_engine_does_not_have_are_removed() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def made(name: str, docker_id: str, active: bool, age_s: int) -> Endpoint:
        return Endpoint(
            id=name, network_id="n", host="h1", mac_address="02:57:00:00:00:09", ofport=1, active=active, labels={LABEL: docker_id},
            created_at=(now - timedelta(seconds=age_s)).isoformat(),
        )  # fmt: skip

    endpoints = [
        made("runs", "a", True, 900), made("gone", "b", True, 900), made("starting", "c", False, 5), made("address", "", False, 5),
        made("forgotten", "", False, 900),
    ]  # fmt: skip
    assert [e.id for e in lost(endpoints, {"a"}, now)] == ["gone", "forgotten"]


def test_an_answer_belongs_to_its_call() -> None:
    body = json.dumps({"EndpointID": "e"}).encode()
    assert answer_to(Refusing(), "NetworkDriver.Leave", body) == (200, {"asked": "e"})  # type: ignore[arg-type]


class Waiting:
    """A driver with endpoints whose labels are still to come; those of the first are wrong."""

    def __init__(self) -> None:
        self.ledger = self
        self.awaited: Listeners[[]] = Listeners()
        self.described: list[str] = []

    def endpoints(self) -> list[Endpoint]:
        fields = {"network_id": "n", "host": "h1", "mac_address": "02:57:00:00:00:09", "ofport": 1, "labelled": False}
        return [Endpoint(id=name, labels={LABEL: name}, **fields) for name in ("wrong", "right")]  # type: ignore[arg-type]

    def networks(self) -> dict[str, dict[str, Any]]:
        return {"d": {"network": "n", "made": True}}

    def tell_labels(self, docker_network: str, endpoint: Endpoint) -> bool:
        self.described.append(endpoint.id)
        if endpoint.id == "wrong":
            raise Invalid("warren.mirror", "maybe", "true or false")
        return False


def test_wrong_late_labels_are_logged_once_and_delay_no_container() -> None:
    driver = Waiting()
    sweep = DockerSweep(None, driver, None, 30)  # type: ignore[arg-type]
    for _ in range(2):
        sweep.tell_labels()
    assert driver.described == ["wrong", "right", "right"]


@pytest.mark.parametrize(
    ("label", "meant"),
    [("warren.acl", True), ("warren.acls", True), ("Warren.ACL", True), ("warren-acl", True), ("warren_acl", True), ("warren", True),
     ("dovesnap.faucet.portacl", True), ("DOVESNAP.x", True), ("ovs.bridge.mode", True), ("ovs_bridge_mode", True), ("dovesnap.namespace", False),
     ("warrenty.acl", False), ("com.example.warren.acl", False), ("role", False)],
)  # fmt: skip
def test_labels_that_are_meant_for_the_driver(label: str, meant: bool) -> None:
    assert options_among({label: "x"}) == ({label: "x"} if meant else {})


def create(internal: bool = False, subnets: tuple[str, ...] = ("10.1.0.0/24",), **options: str) -> dict[str, Any]:
    """The body of CreateNetwork."""
    generic = {name.replace("__", "."): value for name, value in options.items()}
    return {
        "NetworkID": "n" * 64,
        "Options": {"com.docker.network.generic": generic, "com.docker.network.internal": internal},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": None} for subnet in subnets],
    }


BRIDGE = "com__docker__network__bridge__"


@pytest.mark.parametrize(
    ("body", "mode"),
    [
        (create(), None),
        (create(warren__mode="nat"), "nat"),
        (create(True, warren__mode="nat"), "flat"),
        (create(True), "flat"),
        (create(True, ovs__bridge__mode="nat"), "nat"),  # dovesnap demands --internal of every network
        (create(**{f"{BRIDGE}gateway_mode_ipv4": "routed"}), "routed"),
        (create(**{f"{BRIDGE}gateway_mode_ipv4": "nat", f"{BRIDGE}gateway_mode_ipv6": "nat"}), "nat"),
        (create(warren__mode="routed", **{f"{BRIDGE}enable_ip_masquerade": "false"}), "routed"),
        (create(warren__mode="nat", **{f"{BRIDGE}enable_ip_masquerade": "true"}), "nat"),
    ],
)
def test_the_mode_that_docker_means(body: dict[str, Any], mode: str | None) -> None:
    assert parse(body).fields.get("mode") == mode


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (create(warren__mode="nat", **{f"{BRIDGE}enable_ip_masquerade": "false"}), "masquerade"),
        (create(warren__mode="nat", **{f"{BRIDGE}gateway_mode_ipv4": "routed"}), "gateway_mode"),
        (create(**{f"{BRIDGE}gateway_mode_ipv4": "nat", f"{BRIDGE}gateway_mode_ipv6": "routed"}), "gateway_mode_ipv6"),
        (create(warren__mode="nat", ovs__bridge__mode="flat"), "ovs.bridge.mode"),
        (create(**{f"{BRIDGE}enable_icc": "perhaps"}), "enable_icc"),
        (create(**{f"{BRIDGE}host_binding_ipv4": "::1"}), "host_binding"),
        (create(com__docker__network__host_ipv4="192.0.2.1"), "host_ipv4"),
        (create(parent="eth0"), "parent"),
        (create(subnets=("10.1.0.0/24", "10.2.0.0/24")), "--subnet"),
        (create(com__docker__network__container_iface_prefix="a/b"), "container_iface_prefix"),
    ],
)
def test_what_docker_must_not_ask_for(body: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid, match=path):
        parse(body)


def test_settings_that_only_the_engine_has() -> None:
    body = create(True, **{f"{BRIDGE}host_binding_ipv4": "127.0.0.1"}, com__docker__network__container_iface_prefix="lan")
    assert parse(body).settings == {"internal": True, "host_ip": "127.0.0.1", "prefix": "lan"}
    assert parse(create(**{f"{BRIDGE}host_binding_ipv4": "0.0.0.0"})).settings == {"internal": False}
    assert parse(create(**{f"{BRIDGE}enable_icc": "true"})).settings == {"internal": False}
    port = {"Proto": 6, "Port": 80, "HostPort": 8080}
    assert published({"com.docker.network.portmap": [port]}, "127.0.0.1")[0].way["host_ip"] == "127.0.0.1"
    assert (
        published({"com.docker.network.portmap": [{**port, "HostIP": "192.0.2.1"}]}, "127.0.0.1")[0].way["host_ip"] == "192.0.2.1"
    )
    assert "host_ip" not in published({"com.docker.network.portmap": [{**port, "HostIP": "0.0.0.0"}]}, "127.0.0.1")[0].way


def test_interfaces_are_grouped_by_their_vlan() -> None:
    groups = parse(create(ovs__bridge__add_ports="a/1//20,b,c///20,d///7")).by_vlan(7)
    assert {vlan: [each["port"] for each in interfaces] for vlan, interfaces in groups.items()} == {20: ["a", "c"], 7: ["b", "d"]}


ID, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("members", "containers", "expected"),
    [
        ({"ep-e1": {"Name": "web.1", "EndpointID": "e1"}}, [("web-1", OTHER), ("web.1", ID)], "web.1"),
        ({"ep-e1": {"Name": "web.1", "EndpointID": "e1"}}, [("web-1", OTHER)], None),
        ({ID: {"Name": "web.1", "EndpointID": "e1"}}, [("web-1", OTHER), ("web.1", ID)], "web.1"),
        ({ID: {"Name": "web.1", "EndpointID": "e2"}}, [("web.1", ID)], None),
        ({}, [("web.1", ID)], None),
    ],
)
def test_only_the_container_itself_tells_labels(
    members: dict[str, Any], containers: list[tuple[str, str]], expected: str | None
) -> None:
    """An engine of whatever version: its filters may let others through."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/networks/n1":
            return httpx.Response(200, json={"Name": "net", "Containers": members})
        listed = [{"Id": i, "Names": [f"/{name}"], "Labels": {"of": name}} for name, i in containers]
        return httpx.Response(200, json=listed)

    engine = Engine("/nowhere")
    engine._client = httpx.Client(base_url="http://docker", transport=httpx.MockTransport(answer))
    container = engine.container("n1", "e1")
    assert (container and container.labels.get("of")) == expected
    assert container is None or (container.id, container.network) == (ID, "net")


def test_control_groups_name_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of cgroupfs and systemd, and of an agent in a container of its own."""
    lines = {
        "1": f"12:pids:/docker/{ID}\n0::/",
        "2": f"0::/system.slice/docker-{OTHER}.scope",
        "3": "0::/init.scope",
        "4": f"0::/../{ID}",
    }
    for pid, text in lines.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(text)
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert processes.container_ids(iter([1, 2, 3, 99])) == {ID, OTHER}
    assert processes.container_ids(iter([4])) == {ID}


def test_a_mac_changes_when_the_engine_has_announced_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts no container whose MAC changes earlier. It calls the driver again after that, for this endpoint."""
    changes, changed, called = mac.MacChanges(), threading.Event(), []

    def change_mac(*words: str) -> bool:
        called.append(words)
        changed.set()
        return True

    monkeypatch.setattr(mac, "exists", lambda veth: True)
    monkeypatch.setattr(mac, "change_mac", change_mac)
    monkeypatch.setattr(mac, "CALL_S", LIMIT_S)
    changes.begin("ep1", "/ns", "wv1", "02:57:00:00:00:01", "0e:99:00:00:00:01")
    changes.called("ep2")
    assert not changed.wait(0.1)
    changes.called("ep1")
    assert changed.wait(LIMIT_S)
    assert called == [("wv1", "/ns", "02:57:00:00:00:01", "0e:99:00:00:00:01")]
