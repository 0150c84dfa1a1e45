"""Warren's own HTTP routes and the command line, against a real host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest

from tests.agent.conftest import ROOT, Host
from tests.waiting import LIMIT_S, PATIENTLY, eventually

DOCUMENT = """
networks:
  - {name: amber, ip_range: 10.0.0.0/24, ipv6_range: "fd00:1::/64"}
  - {name: blue, ip_range: 10.0.0.0/24}
endpoints:
  - {name: web, network: amber, host: h1, netns: %s}
  - {name: db, network: amber, host: h1, netns: %s, ipv4_address: 10.0.0.50, interface: data0}
"""


def warren(host: Host, *words: str, stdin: str = "", code: int = 0) -> Any:
    """The command line in a process of its own; its JSON, its text, or its error."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
    env |= {"WARREN_URL": f"unix://{host.dir}/agent.sock", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tools.cli.main", *words]
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    if code == 2:
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def test_documents_are_applied_exported_and_compared(host: Host) -> None:
    a, b = host.container(), host.container()
    document = DOCUMENT % (a, b)
    changes_shown = warren(host, "apply", "-f", "-", "--dry-run", "--json", stdin=document)
    assert [(c["action"], c["name"]) for c in changes_shown] == [("create", n) for n in ("amber", "blue", "web", "db")]
    assert warren(host, "network", "list", "--json") == []
    assert warren(host, "apply", "-f", "-", "--wait", "--json", stdin=document) == changes_shown
    assert warren(host, "apply", "-f", "-", stdin=document) == "nothing to change\n"
    assert host.inside(a, "ping", "-c1", PATIENTLY, "10.0.0.50").returncode == 0
    listed = {e["name"]: e for e in warren(host, "endpoint", "list", "--network", "amber", "--host", "h1", "--json")}
    assert (listed["web"]["target_veth_name"], listed["db"]["target_veth_name"]) == ("eth0", "data0")
    assert listed["web"]["state"] == "up"

    exported = warren(host, "export")
    assert warren(host, "apply", "-f", "-", "--prune", stdin=exported) == "nothing to change\n"
    moved = (
        document.replace("10.0.0.50", "10.0.0.51")
        .replace("data0", "data1")
        .replace("  - {name: blue, ip_range: 10.0.0.0/24}\n", "")
    )
    changes = warren(host, "apply", "-f", "-", "--prune", "--wait", "--json", stdin=moved)
    assert [(c["action"], c["name"]) for c in changes] == [("delete", "blue"), ("update", "db")]
    assert changes[1]["fields"]["ipv4_address"] == {"old": "10.0.0.50", "new": "10.0.0.51"}
    host.until(lambda: host.inside(a, "ping", "-c1", "-W1", "10.0.0.51").returncode == 0)
    assert "data1" in host.inside(b, "ip", "-br", "link").stdout
    assert "data0" not in host.inside(b, "ip", "-br", "link").stdout

    for proto in (("--udp", "53"), ("--icmp",), ("--tcp", "80")):
        trace = warren(host, "trace", "web", "amber/db", *proto, "--json")
        assert trace["verdict"] == "delivered"
    assert [step["table"] for step in trace["hosts"][0]["steps"]][0] == "CLASSIFY"
    assert "endpoint/amber/web" in warren(host, "trace", "web", "db")
    assert "endpoint/amber/web" in warren(host, "flows", "h1")
    assert {"table", "origin", "cookie"} <= set(warren(host, "flows", "h1", "--json")[0])
    assert warren(host, "check", "h1", "--json")["missing"] == []

    applied = warren(host, "apply", "-f", "-", "--prune", stdin="networks: []\nendpoints: []\n")
    assert sorted(applied.splitlines()) == ["delete endpoint db", "delete endpoint web", "delete network amber"]
    host.until(lambda: not host.veths())


def test_fields_that_contradict_each_other_are_refused_before_anything_is_written(host: Host) -> None:
    document = "acls: {wall: [{actions: {allow: 0}}]}\nnetworks: [{name: one, ip_range: 10.1.0.0/24}, {name: two, dhcp: true}]"
    for more in ((), ("--dry-run",)):
        error = warren(host, "apply", "-f", "-", *more, stdin=document, code=2)
        assert "networks[1].ip_range is missing: dhcp needs ip_range or ipv6_range" in error
        assert error.count("\n") == 1
    assert "wall" not in warren(host, "export")


def test_a_refused_change_names_the_path_in_the_document(host: Host) -> None:
    document = (
        "networks: [{name: one, ip_range: 10.1.0.0/24}]\nendpoints: [{name: e, network: one, host: h1, ipv4_address: 10.9.0.1}]"
    )
    error = warren(host, "apply", "-f", "-", stdin=document, code=2)
    assert "line 2: endpoints[0].ipv4_address: '10.9.0.1': expected a host address of 10.1.0.0/24" in error
    assert "were made" not in error
    warren(host, "apply", "-f", "-", stdin="networks: [{name: one, ip_range: 10.1.0.0/24}]")
    error = warren(host, "apply", "-f", "-", stdin="networks: [{name: one, ip_range: 10.2.0.0/24}]", code=2)
    assert "ip_range cannot change" in error
    warren(host, "network", "delete", "one")


def test_check_reports_unexpected_flows_of_warren_only(host: Host) -> None:
    """The controller may remove the flow with Warren's mark at any moment: its next audit is due."""
    flow = "cookie=0x5701000000000001,table=0,priority=7,in_port=4000,actions=drop"
    stranger = flow.replace("0x57", "0x11").replace("4000", "4001")

    def add() -> None:
        for text in (flow, stranger):
            host.switch.run("ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-warren", text)

    def is_reported() -> bool:
        add()
        report = warren(host, "check", "h1", "--json", code=1)
        assert report["differences"] == []
        assert len(report["unexpected"]) <= 1
        return any("in_port=4000" in text for text in report["unexpected"])

    def is_listed() -> bool:
        add()
        return {"stale", "stranger"} <= {f["origin"] for f in warren(host, "flows", "h1", "--json")}

    eventually(is_reported)
    eventually(is_listed)
    host.switch.run("ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-warren", "cookie=0x5701000000000001/-1")


def test_commands_create_show_change_and_delete_each_kind(host: Host) -> None:
    network = warren(host, "network", "create", "green", "--ip-range", "10.4.0.0/24", "--label", "team=a", "--wait", "--json")
    assert (network["labels"], network["gateway"]) == ({"team": "a"}, "10.4.0.1/24")
    netns = host.container()
    made = warren(host, "endpoint", "create", "green", "--netns", netns, "--name", "x", "--ip", "10.4.0.9", "--json")
    assert (made["target_veth_ip"], made["state"]) == ("10.4.0.9/24", "up")
    assert warren(host, "endpoint", "show", "green/x", "--json")["id"] == made["id"]
    assert warren(host, "endpoint", "show", made["id"], "--json")["name"] == "x"
    assert "10.4.0.9/24" in warren(host, "endpoint", "list")
    assert warren(host, "network", "show", network["id"], "--json") == network
    (one,) = warren(host, "host", "list", "--json")
    assert (one["name"], one["agent"], one["controller"]) == ("h1", "alive", "alive")
    (state,) = warren(host, "status", "--wait", "--json")
    assert state["endpoints"]["up"] >= 1
    assert state["current"] is True
    assert warren(host, "host", "show", "h1", "--json")["vtep"] == "192.0.2.1"
    warren(host, "endpoint", "delete", "x")
    warren(host, "network", "delete", "green", "--wait")
    six = warren(host, "network", "create", "six", "--ipv6-range", "fd04::/64", "--json")
    assert (six["ip_range"], six["ipv6_gateway"]) == ("", "fd04::1/64")
    for name in ("a", "b"):
        warren(host, "endpoint", "create", "six", "--netns", host.container(), "--name", name)
    for proto in (("--udp", "53"), ("--icmp",), ("--tcp", "80")):
        assert warren(host, "trace", "six/a", "six/b", *proto, "--json")["verdict"] == "delivered"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("network", "show", "nope"), "network 'nope' does not exist"),
        (("endpoint", "show", "nope/x"), "network 'nope' does not exist"),
        (("host", "show", "nope"), "host 'nope' does not exist"),
        (("flows", "nope"), "host 'nope' does not exist"),
        (("trace", "nobody", "b"), "does not exist"),
        (("trace", "nobody", "b", "--tcp", "1", "--udp", "1"), "give one of"),
        (("network", "delete", ""), "expected a name or an id"),
        (("acl", "delete", "../endpoints/web"), "expected a name or an id"),
        (("network", "show", "../endpoints"), "expected a name or an id"),
        (("endpoint", "show", "../networks"), "expected a name, NETWORK/NAME or an id"),
        (("host", "show", "h1/flows"), "expected a name or an id"),
        (("network", "show", "amber?x=1"), "network 'amber?x=1' does not exist"),
        (("network", "create", ""), "name is empty"),
        (("endpoint", "list", "--host", ""), "hostname is empty"),
        (("network", "create", "x", "--ip-range", "10.0.0.1/24"), "ip_range"),
        (("network", "create", "x", "--label", "a"), "KEY=VALUE"),
        (("network", "create"), "NAME is missing"),
        (("nope",), "No such command"),
        (("apply", "-f", "/nope"), "No such file"),
        (("--url", "unix:///nope", "status"), "no agent at"),
        (("--url", "ftp://x", "status"), "no URL of an agent"),
        (("--lab", "nope", "status"), "lab 'nope' is not up"),
    ],
)
def test_errors_are_one_line_and_exit_2(host: Host, words: tuple[str, ...], message: str) -> None:
    assert message in warren(host, *words, code=2)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "../a", "x" * 5000, "?a=1#b"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/trace", {"src": "NAME", "dst": "NAME"}),
        ("/acls/NAME/check", {"src": "NAME", "dst": "NAME"}),
        ("/hosts/h1/trace", {"flow": "NAME"}),
        ("/hosts/h1/trace", {"flow": "in_port=1,NAME"}),
        ("/hosts/h1/trace", {"flow": "in_port=1", "enters": "NAME"}),
        ("/mirrors", {"name": "NAME", "sources": [{"network": "NAME"}], "to": {"network": "NAME", "endpoint": "NAME"}}),
        ("/captures", {"endpoint": "NAME"}),
        ("/apply", {"document": "networks: [{name: NAME}]"}),
        ("/routers", {"name": "NAME", "networks": ["NAME", "b"]}),
        ("/services", {"name": "NAME", "network": "NAME", "host_port": 1, "port": 1, "label": "NAME"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_text_is_the_senders_mistake(host: Host, path: str, body: dict[str, Any], name: str) -> None:
    quoted = quote(name, safe="", errors="surrogatepass")
    data = json.loads(json.dumps(body).replace("NAME", json.dumps(name)[1:-1]))
    answer = host.http.post(path.replace("NAME", quoted), content=json.dumps(data).encode())
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]


def test_what_a_trace_cannot_begin_with_is_told_as_such(host: Host) -> None:
    network = host.network(name="quiet")
    made = host.http.post("/endpoints", json={"network_id": network, "name": "ghost", "activate": False})
    assert made.status_code == 201, made.text
    made = made.json()["endpoint"]
    body = {"flow": "in_port=1", "enters": made["id"]}
    answer = host.http.post("/hosts/h1/trace", json=body)
    assert (answer.status_code, answer.json()["detail"]["kind"]) == (404, "not_found")
    assert "port on the bridge of h1 for 'endpoint quiet/ghost' does not exist" in answer.json()["error"]
    answer = host.http.post("/hosts/h1/trace", json={"flow": "in_port=1,nw_src=x"})
    assert (answer.status_code, answer.json()["detail"]["path"]) == (400, "flow")
    host.http.delete(f"/endpoints/{made['id']}")
    host.http.delete(f"/networks/{network}")


def test_values_in_use_and_exhausted_pools_are_refused(host: Host) -> None:
    warren(host, "network", "create", "tiny", "--ip-range", "10.7.0.0/30", "--vni", "7777")
    assert "VNI 7777 is taken by network tiny" in warren(host, "network", "create", "second", "--vni", "7777", code=2)
    assert "the name tiny belongs to network" in warren(host, "network", "create", "tiny", code=2)
    a, b = host.container(), host.container()
    warren(host, "endpoint", "create", "tiny", "--netns", a, "--name", "only")
    before = host.veths()
    taken = warren(host, "endpoint", "create", "tiny", "--netns", b, "--ip", "10.7.0.2", code=2)
    assert "10.7.0.2 is taken by endpoint only" in taken
    assert "no free address is left in 10.7.0.0/30" in warren(host, "endpoint", "create", "tiny", "--netns", b, code=2)
    assert "network 'nope' does not exist" in warren(host, "endpoint", "create", "nope", "--netns", b, code=2)
    assert "/run/netns/nope" in warren(host, "endpoint", "create", "tiny", "--netns", "/run/netns/nope", code=2)
    assert "network tiny has 1 endpoint" in warren(host, "network", "delete", "tiny", code=2)
    assert host.veths() == before
    warren(host, "endpoint", "delete", "tiny/only")
    warren(host, "network", "delete", "tiny")
