"""SAND's clients as they are against a real agent: Go's zero values, free text, careless bodies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.conftest import Host

ZERO = {"set_addr": False, "move_veth": False}  # what SAND's client sends: Go's values of fields that nobody has set


def test_an_endpoint_of_sands_client_has_its_interface_and_address(host: Host) -> None:
    network, netns = host.network(ip_range="10.6.0.0/24"), host.container()
    body = {
        "network_id": network,
        "activate": True,
        "activate_params": {"ns_handle_path": netns, **ZERO},
        "ipv4_address": "",
        "mac_address": "",
    }
    answer = host.http.post("/endpoints", json=body)
    assert answer.status_code == 201, answer.text
    endpoint = answer.json()["endpoint"]
    assert f"inet {endpoint['target_veth_ip']}" in host.inside(netns, "ip", "addr", "show", endpoint["target_veth_name"]).stdout
    assert endpoint["target_netns_path"] == netns


def test_interface_and_addresses_stay_away_on_request(host: Host) -> None:
    network, netns = host.network(ip_range="10.6.0.0/24"), host.container()
    bare = host.attach(network, netns, set_addresses=False)
    assert "inet " not in host.inside(netns, "ip", "addr", "show", str(bare["target_veth_name"])).stdout
    left = host.attach(network, netns, move_interface=False)
    assert left["target_netns_path"] == netns
    assert str(left["target_veth_name"]) in host.switch.exec("ip", "-br", "link")
    for endpoint in (bare, left):
        assert host.http.delete(f"/endpoints/{endpoint['id']}").status_code == 204


@pytest.mark.parametrize("warrens", [{}, {"move_interface": False}, {"set_addresses": False, "move_interface": False}])
def test_a_path_that_is_no_namespace_is_refused(host: Host, tmp_path: Path, warrens: dict[str, bool]) -> None:
    network = host.network()
    (tmp_path / "file").touch()
    for path in (
        "/etc/passwd",
        "/run/netns/nope",
        str(tmp_path),
        str(tmp_path / "file"),
        "/proc/self/ns/mnt",
        "/dev/null",
        "a\0b",
    ):
        body = {"network_id": network, "activate": True, "activate_params": {"ns_handle_path": path, **ZERO}, **warrens}
        answer = host.http.post("/endpoints", json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert repr(path)[1:-1] in answer.json()["error"]
    assert host.http.get(f"/endpoints?network_id={network}").json()["endpoints"] == []


def test_names_of_sand_are_free_text_and_not_unique(host: Host) -> None:
    names = ["two words / é", "two words / é", "twin", "twin", "", "..", "x" * 200]
    answers = [host.http.post("/networks", json={"name": name}) for name in names]
    assert [answer.status_code for answer in answers] == [201] * len(names), [answer.text for answer in answers]
    made = [answer.json()["network"] for answer in answers]
    assert [n["name"] for n in made] == [name or f"net-sc-{n['id']}" for name, n in zip(names, made, strict=True)]
    assert [n["unique_name"] for n in made] == [f"net-sc-{n['id']}" if n is not made[2] else "twin" for n in made]
    assert all(n in host.http.get("/networks").json()["networks"] for n in made)
    assert host.http.get("/networks/twin").json()["network"] == made[2]
    refused = host.http.post("/networks", json={"name": "twin"}, headers={"Prefer": "handling=strict"})
    assert (refused.status_code, refused.json()["detail"]["field"]) == (409, "name")
    assert host.http.post("/networks", json={"name": "twin", "mode": "flat"}).status_code == 409
    document = host.http.get("/export").text
    assert document.count("two words / ") == 2
    assert host.http.post("/apply", json={"document": document, "prune": True, "dry_run": True}).json()["changes"] == []
    for network in made:
        assert host.http.delete(f"/networks/{network['id']}").status_code == 204


def test_a_passive_endpoint_has_an_address_and_no_interface(host: Host) -> None:
    network, veths = host.network(ip_range="10.6.0.0/24"), host.veths()
    answer = host.http.post("/endpoints", json={"network_id": network, "ipv4_address": "10.6.0.51/24", "colour": 1})
    assert answer.status_code == 201, answer.text
    endpoint = answer.json()["endpoint"]
    assert (endpoint["active"], endpoint["target_veth_ip"], endpoint["target_netns_path"]) == (False, "10.6.0.51/24", "")
    assert host.veths() == veths
    for address, status in (("10.6.0.51/24", 409), ("10.6.0.52/16", 400), ("10.6.0.52", 201)):
        assert host.http.post("/endpoints", json={"network_id": network, "ipv4_address": address}).status_code == status
    assert host.http.delete(f"/endpoints/{endpoint['id']}").status_code == 204


@pytest.mark.parametrize("activate", [False, True])
def test_an_unknown_network_is_not_found(host: Host, activate: bool) -> None:
    params = {"activate": True, "activate_params": {"ns_handle_path": host.container(), **ZERO}} if activate else {}
    for network in ("320a669f-e465-4806-ab46-f2e6620c4311", "", "two words", "../x", "a\0b"):
        answer = host.http.post("/endpoints", json={"network_id": network, **params})
        assert answer.status_code == 404, (network, answer.text)
    assert host.http.post("/endpoints", content=b"null").status_code == 404
