"""Restarts and crashes of the agent: what it adopts, completes, removes, and leaves alone."""

from __future__ import annotations

import re
import signal
import subprocess

from tests.agent.conftest import Host
from tests.waiting import LIMIT_S, PATIENTLY, eventually


def test_a_restart_disturbs_nothing(host: Host) -> None:
    network, a, b = host.network(), host.container(), host.container()
    host.attach(network, a)
    target = str(host.attach(network, b)["target_veth_ip"]).split("/")[0]
    links = host.switch.exec("ip", "-br", "link")
    ping = subprocess.Popen(
        ["ip", "netns", "exec", a.rpartition("/")[2], "ping", "-i", "0.01", "-w", "120", target],
        stdout=subprocess.PIPE,
        text=True,
    )
    for number in (signal.SIGKILL, signal.SIGTERM):
        host.stop("agent", number)
        host.start("agent")
    ping.send_signal(signal.SIGINT)
    out = ping.communicate(timeout=LIMIT_S)[0]
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", out)
    assert counts, out
    assert int(counts[1]) - int(counts[2]) <= 1, "more are lost than the one that was on its way at the end"
    assert host.switch.exec("ip", "-br", "link") == links


def test_sigterm_ends_the_agents_lease_before_the_process_ends(host: Host) -> None:
    host.stop("agent")
    assert host.keys("list", "status/agents/").strip() == "[]", "its lease has ended before the process did"
    host.start("agent")


def test_leftovers_of_warren_are_removed_and_foreign_interfaces_stay(host: Host) -> None:
    host.stop("agent", signal.SIGKILL)
    for name in ("wv0123456789ab", "wvguest", "veth7"):
        host.switch.exec("ip", "link", "add", name, "type", "veth", "peer", "name", f"p{name[:13]}")
    ours = ("external_ids:owner=warren", "external_ids:warren-endpoint=ghost")
    for name, ids in (("wvfedcba987654", ours), ("stranger0", ())):
        port = ["add-port", "br-warren", name, "--", "set", "interface", name, "type=internal", *ids]
        host.switch.vsctl(*port, "--", "set", "port", name, *ids[:1]) if ids else host.switch.vsctl(*port)
    host.start("agent")
    host.until(lambda: "wvfedcba987654" not in host.ports())
    assert "wv0123456789ab" not in host.veths()
    assert "wvguest" in host.veths()
    assert "veth7" in host.switch.exec("ip", "-br", "link")
    assert "stranger0" in host.ports()
    host.switch.vsctl("del-port", "stranger0")


def test_half_attached_endpoints_are_completed_after_a_restart(host: Host) -> None:
    """As after a crash between the record, the veth and the port."""
    network, a, b = host.network(), host.container(), host.container()
    first, second = host.attach(network, a), host.attach(network, b)
    host.stop("agent", signal.SIGKILL)
    host.switch.vsctl("del-port", str(first["overlay_veth_name"]))
    host.switch.exec("ip", "link", "del", str(second["overlay_veth_name"]))
    host.start("agent")
    target = str(second["target_veth_ip"]).split("/")[0]
    host.until(lambda: host.inside(a, "ping", "-c1", "-W1", target).returncode == 0)
    assert host.http.get("/hosts/h1/check").json()["missing"] == []


def test_an_endpoint_waits_while_its_namespace_is_gone_and_is_attached_again_when_it_is_back(host: Host) -> None:
    network, netns = host.network(), host.container()
    endpoint = host.attach(network, netns, name="phoenix")
    subprocess.run(["ip", "netns", "del", netns.rpartition("/")[2]], check=True)
    host.until(lambda: any("phoenix" in p for p in host.http.get("/status").json()["hosts"][0]["problems"]))
    assert endpoint["overlay_veth_name"] not in host.ports()
    host.until(lambda: host.http.get("/endpoints/phoenix").json()["endpoint"]["state"] == "waiting")
    subprocess.run(["ip", "netns", "add", netns.rpartition("/")[2]], check=True)
    host.until(lambda: host.http.get("/endpoints/phoenix").json()["endpoint"]["state"] == "up")
    host.until(lambda: not host.http.get("/status").json()["hosts"][0]["problems"])


def test_without_a_controller_an_attach_fails_and_leaves_nothing(host: Host) -> None:
    network, netns = host.network(), host.container()
    veths, ports = host.veths(), host.ports()
    host.stop("controller", signal.SIGKILL)
    answer = host.http.post("/endpoints", json={"network_id": network, "ns_handle_path": netns})
    assert answer.status_code == 503
    assert "the controller of h1" in answer.json()["error"]
    assert (host.veths(), host.ports()) == (veths, ports)
    assert host.http.get(f"/endpoints?network_id={network}").json()["endpoints"] == []
    host.start("controller")
    host.until(lambda: host.http.get("/status").json()["hosts"][0]["current"])
    assert host.attach(network, netns)["target_veth_ip"] == "10.0.0.2/24"  # the address was given back


def test_without_etcd_requests_fail_clearly_and_forwarding_goes_on(host: Host) -> None:
    network, a, b, c = host.network(), host.container(), host.container(), host.container()
    host.attach(network, a)
    target = str(host.attach(network, b)["target_veth_ip"]).split("/")[0]
    host.stop("etcd", signal.SIGKILL)
    for answer in (
        host.http.post("/endpoints", json={"network_id": network, "ns_handle_path": c}),
        host.http.get("/networks"),
        host.http.delete(f"/networks/{network}"),
    ):
        assert answer.status_code == 503
        assert "etcd is unavailable" in answer.json()["error"]
    assert host.inside(a, "ping", "-c2", "-i0.2", PATIENTLY, target).returncode == 0
    host.start("etcd")
    host.until(lambda: host.http.get("/networks").status_code == 200)
    host.until(lambda: host.http.get("/status").json()["hosts"][0]["agent"] == "alive")
    host.attach(network, c)


def test_without_ovsdb_an_attach_fails_clearly(host: Host) -> None:
    network, netns = host.network(), host.container()
    host.switch.stop_db()
    answer = host.http.post("/endpoints", json={"network_id": network, "ns_handle_path": netns})
    assert answer.status_code == 503
    assert "Open vSwitch on h1 is unavailable" in answer.json()["error"]
    host.switch.start_db()
    host.until(lambda: host.http.post("/endpoints", json={"network_id": network, "ns_handle_path": netns}).status_code == 201)


def test_malformed_records_in_etcd_break_no_request_and_no_attach(host: Host) -> None:
    keys = [
        "spec/networks/bad",
        "spec/endpoints/bad/bad",
        "spec/hosts/bad",
        "spec/odd",
        "status/agents/h1x",
        "status/controllers/odd",
    ]
    host.keys("put", '{"x": [', *keys, "status/endpoints/h1/odd")
    network, a, b = host.network(), host.container(), host.container()
    host.attach(network, a)
    target = str(host.attach(network, b)["target_veth_ip"]).split("/")[0]
    assert host.inside(a, "ping", "-c1", PATIENTLY, target).returncode == 0
    for path in ("/networks", "/endpoints?states=true", "/hosts", "/status", "/export", "/hosts/h1/check", "/hosts/h1/flows"):
        assert host.http.get(path).status_code == 200, path
    assert host.http.get("/networks/bad").status_code == 400
    assert host.http.get("/endpoints/bad").status_code == 404
    # a controller whose specs change all the time reports at most once a second
    eventually(lambda: "spec/networks/bad" in " ".join(host.http.get("/hosts/h1").json()["host"]["problems"]))
    host.stop("agent", signal.SIGKILL)
    host.start("agent")
    host.keys("delete", *keys, "status/endpoints/h1/odd")


def test_the_switch_can_be_asked_while_etcd_is_away(host: Host) -> None:
    network = host.network(name="lasting")
    for name in ("one", "two"):
        host.attach(network, host.container(), name=name)
    host.stop("etcd")
    try:
        flows = host.http.get("/hosts/h1/flows")
        assert flows.status_code == 200, flows.text
        assert "endpoint/lasting/one" in {flow["origin"] for flow in flows.json()["flows"]}
        checked = host.http.get("/hosts/h1/check").json()
        assert (checked["missing"], checked["unexpected"]) == ([], [])
        traced = host.http.post("/trace", json={"src": "lasting/one", "dst": "two"})
        assert traced.status_code == 200, traced.text
        assert traced.json()["verdict"] == "delivered"
        assert host.http.get("/networks").status_code == 503
        status = host.http.get("/status").json()
        assert "etcd is unavailable" in status["etcd"]
        (alone,) = status["hosts"]
        assert (alone["name"], alone["agent"], alone["controller"]) == ("h1", "alive", "unknown")
        assert alone["endpoints"].keys() == {"unknown"}
        assert host.http.get("/status?wait_s=1").status_code == 503, "nobody can say that the hosts are current"
    finally:
        host.start("etcd")
    host.until(lambda: host.http.get("/networks").status_code == 200)
