"""SAND's HTTP API against a real host: paths, status codes, field names, filters."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import uuid

import pytest

from tests.agent.conftest import Host
from tests.programs import program, ready
from tests.waiting import LIMIT_S, PATIENTLY

NETWORK = {"id", "created_at", "name", "type", "ns_handle_path", "vxlan_vni", "ip_range", "gateway"}
ENDPOINT = {
    "id", "network_id", "hostname", "host_ip", "api_hostname", "created_at", "target_netns_path", "overlay_veth_name",
    "overlay_veth_mac", "target_veth_name", "target_veth_mac", "target_veth_ip", "active",
}  # fmt: skip


def test_the_version_is_answered_as_sand_does(host: Host) -> None:
    assert host.http.get("/version").json()["version"].startswith("v")


def test_a_network_is_created_read_and_deleted(host: Host) -> None:
    made = host.http.post("/networks", json={})
    network = made.json()["network"]
    assert made.status_code == 201
    assert set(network) >= NETWORK
    assert network["name"] == f"net-sc-{network['id']}"
    assert (network["type"], network["ip_range"], network["gateway"]) == ("overlay", "10.0.0.0/24", "10.0.0.1/24")
    assert isinstance(network["vxlan_vni"], int)
    assert network["created_at"].endswith("Z")
    assert network in host.http.get("/networks").json()["networks"]
    assert host.http.get(f"/networks/{network['id']}").json() == {"network": network}
    gone = host.http.delete(f"/networks/{network['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert host.http.get(f"/networks/{network['id']}").status_code == 404
    assert host.http.delete(f"/networks/{network['id']}").status_code == 404


def test_a_network_may_choose_its_id_and_gateway(host: Host) -> None:
    mine = str(uuid.uuid4())
    body = {"id": mine, "name": "own", "type": "overlay", "ip_range": "10.7.0.0/16", "gateway": "10.7.9.9/16"}
    network = host.http.post("/networks", json=body).json()["network"]
    assert {k: network[k] for k in body} == body
    assert host.http.post("/networks", json={"name": "own", "mode": "flat"}).status_code == 409
    assert host.http.get("/networks/own").json()["network"] == network
    assert host.http.delete("/networks/own").status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{bad", 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        (b"", 400, "required"),
        (b'{"ip_range": "10.0.0.1/24"}', 400, "ip_range: '10.0.0.1/24'"),
        (b'{"ip_range": 10}', 400, "ip_range: 10"),
        (b'{"gateway": "10.9.0.1/24"}', 400, "gateway"),
        (b'{"type": "bridge"}', 400, "type: 'bridge': expected overlay"),
        (b'{"colour": 1, "mtu": 1400}', 400, "colour: there is no such field"),
        (b'{"vxlan_vni": 0}', 400, "vxlan_vni: 0"),
        (b'{"name": 5}', 400, "name: 5"),
        (b" " * 1_048_577, 413, "longer than"),
        (b" " * 10_000_000, 413, "longer than"),
    ],
    ids=range(12),
)
def test_malformed_request_bodies_are_refused_with_their_path(host: Host, body: bytes, status: int, message: str) -> None:
    answer = host.http.post("/networks", content=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail"}
    assert answer.json()["detail"]["kind"] in ("invalid", "http")
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_unknown_routes_and_methods_are_json_errors(host: Host) -> None:
    for answer, status in ((host.http.get("/nope"), 404), (host.http.put("/networks"), 405)):
        assert answer.status_code == status
        assert list(answer.json()) == ["error", "detail"]
    assert host.http.get("/docs").status_code == 200
    assert "/endpoints" in host.http.get("/openapi.json").json()["paths"]


def test_an_endpoint_is_created_activated_and_deleted(host: Host) -> None:
    network, a, b = host.network(), host.container(), host.container()
    first, second = host.attach(network, a), host.attach(network, b, ipv4_address="10.0.0.77", mac_address="02:00:00:00:00:77")
    assert set(first) >= ENDPOINT
    assert first["network_id"] == network
    assert (first["hostname"], first["host_ip"], first["active"]) == ("h1", "192.0.2.1", True)
    assert (first["target_netns_path"], first["target_veth_name"]) == (a, "eth0")
    assert first["target_veth_ip"] == "10.0.0.2/24"
    assert (second["target_veth_ip"], second["target_veth_mac"]) == ("10.0.0.77/24", "02:00:00:00:00:77")
    assert host.inside(a, "ping", "-c1", PATIENTLY, "10.0.0.77").returncode == 0
    assert "mtu 1446" in host.inside(a, "ip", "link", "show", "eth0").stdout
    refused = host.http.delete(f"/networks/{network}")
    assert refused.status_code == 400
    assert "2 endpoints" in refused.json()["error"]
    for endpoint in (first, second):
        assert host.http.delete(f"/endpoints/{endpoint['id']}").status_code == 204
        assert host.http.delete(f"/endpoints/{endpoint['id']}").status_code == 404
        assert endpoint["overlay_veth_name"] not in host.veths() | host.ports()
    assert host.http.delete(f"/networks/{network}").status_code == 204


def test_endpoints_are_listed_by_each_filter(host: Host) -> None:
    one, two = host.network(), host.network()
    ids = [host.attach(network, host.container())["id"] for network in (one, two)]

    def listed(query: str) -> list[str]:
        return [e["id"] for e in host.http.get(f"/endpoints?{query}").json()["endpoints"] if e["id"] in ids]

    assert sorted(listed("network_id=&hostname=")) == sorted(listed("")) == sorted(ids)
    assert listed(f"network_id={one}&hostname=") == ids[:1]
    assert sorted(listed("network_id=&hostname=h1")) == sorted(ids)
    assert listed("hostname=h9") == listed("network_id=nope") == []


def test_many_endpoints_in_one_namespace(host: Host) -> None:
    netns = host.container()
    names = [host.attach(host.network(ip_range=f"10.{i}.0.0/24"), netns)["target_veth_name"] for i in range(3)]
    assert names == ["eth0", "eth1", "eth2"]


def test_activation_parameters_may_stand_beside_the_others(host: Host) -> None:
    netns = host.container()
    body = {"network_id": host.network(), "activate": True, "ns_handle_path": netns, "mac_address": "", "ipv4_address": ""}
    answer = host.http.post("/endpoints", json=body)
    assert answer.status_code == 201
    assert answer.json()["endpoint"]["target_netns_path"] == netns


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"activate": True}, 400, "ns_handle_path"),
        ({"network_id": "N", "activate": True}, 400, "ns_handle_path"),
        ({"network_id": "N", "ns_handle_path": "/run/netns/nope"}, 400, "/run/netns/nope"),
        ({"network_id": "N", "ns_handle_path": "/etc/passwd"}, 400, "/etc/passwd"),
        ({"network_id": "nope", "ns_handle_path": "C"}, 404, "nope"),
        ({"network_id": "N", "ns_handle_path": "C", "ipv4_address": "10.0.9.9"}, 400, "10.0.9.9"),
        ({"network_id": "N", "ns_handle_path": "C", "ipv4_address": "10.0.0.1"}, 409, "gateway"),
        ({"network_id": "N", "ns_handle_path": "C", "ipv4_address": "many"}, 400, "ipv4_address"),
        ({"network_id": "N", "ns_handle_path": "C", "mac_address": "01:00:00:00:00:01"}, 400, "mac_address"),
        ({"network_id": "N", "ns_handle_path": "C", "interface": "lo"}, 409, "lo"),
        ({"network_id": "N", "ns_handle_path": "C", "hostname": "h9"}, 404, "h9"),
    ],
    ids=range(11),
)
def test_a_refused_endpoint_leaves_nothing(host: Host, body: dict[str, object], status: int, message: str) -> None:
    network, netns = host.network(), host.container()
    veths, ports = host.veths(), host.ports()
    real = {"N": network, "C": netns}
    answer = host.http.post("/endpoints", json={k: real.get(str(v), v) for k, v in body.items()})
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert (host.veths(), host.ports()) == (veths, ports)
    assert host.http.get(f"/endpoints?network_id={network}").json()["endpoints"] == []
    assert host.http.delete(f"/networks/{network}").status_code == 204


def test_an_endpoint_of_another_host_is_refused(host: Host) -> None:
    document = "hosts: [{name: far, vtep: 192.0.2.99}]\nnetworks: [{name: wide, ip_range: 10.3.0.0/24}]\n"
    document += "endpoints: [{name: e, network: wide, host: far, netns: /x}]"
    assert host.http.post("/apply", json={"document": document}).status_code == 200
    answer = host.http.delete("/endpoints/wide/e")
    assert answer.status_code == 400
    assert "far" in answer.json()["error"]
    far = host.http.delete("/endpoints/wide/e?hostname=far")
    assert far.status_code == 503
    assert "has no URL" in far.json()["error"]


def test_connect_tunnels_bytes_to_an_endpoint(host: Host) -> None:
    network, a, b = host.network(ip_range="10.5.0.0/24"), host.container(), host.container()
    host.attach(network, a)
    target = str(host.attach(network, b)["target_veth_ip"]).split("/")[0]
    command = ["ip", "netns", "exec", b.rpartition("/")[2], *program("reverse", target, 7000)]
    server = ready(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    payload = bytes(range(256)) * 4000
    answer = _connect(host, f"/networks/{network}?ip={target}&port=7000", payload)
    assert server.wait(LIMIT_S) == 0
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK"
    assert body == payload[::-1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/networks/N?ip=10.0.0.2", 400),
        ("/networks/N?port=80", 400),
        ("/networks/N?ip=x&port=80", 400),
        ("/networks/N?ip=10.0.0.2&port=99999", 400),
        ("/networks/N?ip=10.0.0.2&port=80", 400),  # no active endpoint
        ("/networks/N?ip=127.0.0.1&port=80", 400),
        ("/networks/nope?ip=10.0.0.2&port=80", 404),
        ("/nope", 404),
    ],
)
def test_connect_requests_that_cannot_work_are_refused(host: Host, path: str, status: int) -> None:
    answer = _connect(host, path.replace("N?", f"{host.network()}?"), b"")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'{"error": ' in answer


def _connect(host: Host, path: str, payload: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(f"{host.dir}/agent.sock")
        client.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")  # a kept connection may turn into a tunnel
        answer = b""
        while not answer.endswith(b"}"):
            answer += client.recv(65536)
        for part in (b"CONN", f"ECT {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), payload):
            if part:  # an agent that has refused may have closed already: then even nothing cannot be sent
                client.sendall(part)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer
