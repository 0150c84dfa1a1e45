"""The verdict about a packet between two endpoints, from what their hosts' switches say, and the ACLs' part in it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.policy_check import Check, decide
from agent.trace import follow
from specs.model.endpoint import Endpoint
from specs.snapshot import snapshot
from tests.unit import worlds
from warren.errors import Conflict

VTEPS = {"h1": "192.0.2.1", "h2": "192.0.2.2"}
WEB, DB, NFV = (
    Endpoint(
        id=name, name=name, network_id="n", host=host, mac_address=f"02:00:00:00:00:0{n}", ipv4_address=f"10.0.0.{n}", ofport=n
    )
    for n, name, host in ((1, "web", "h1"), (2, "db", "h1"), (3, "far", "h2"))
)
PASSED = {
    "table": "CLASSIFY",
    "matched": "in_port=1 (priority 100)",
    "origin": "endpoint/web",
    "actions": ["goto_table:4"],
    "branch": "",
}


def end(kind: str, table: str = "OUTPUT", *, endpoint: str | None = None, **more: Any) -> dict[str, Any]:
    defaults = {"branch": "", "port": None, "vtep": None, "vni": None, "problem": "", "origin": f"some/{table}"}
    return {"kind": kind, "table": table, "endpoint": endpoint, "endpoint_name": endpoint, **defaults, **more}


def hop(host: str, *ends: dict[str, Any]) -> dict[str, Any]:
    sent = [each for each in ends if each["kind"] == "output" and not each["branch"] and not each["problem"]]
    tunnels = [{"vtep": each["vtep"], "vni": each["vni"]} for each in sent if each["vtep"]]
    to = [each["endpoint"] for each in sent if each["endpoint"]]
    return {"host": host, "packet": "a packet", "steps": [PASSED], "ends": list(ends), "tunnels": tunnels, "delivered_to": to}


def verdict(target: Endpoint, *hops: dict[str, Any]) -> tuple[str, str, str]:
    answers = iter(hops)
    followed = follow(WEB, target, "tcp", 80, VTEPS, lambda host, flow, enters: next(answers))
    assert next(answers, None) is None, "not all hosts were asked"
    return followed["verdict"], followed["reason"], followed["text"]


COPY_TO_DB = end("output", "COPY", endpoint="db", branch="copy", port=2)
DENIED = end("drop", "ACL_IN", origin="policy/amber:in:web")


def test_a_copy_that_arrives_is_no_delivery() -> None:
    outcome, reason, text = verdict(DB, hop("h1", COPY_TO_DB, DENIED))
    assert (outcome, reason) == ("dropped", "in ACL_IN on h1, by the flow of policy/amber:in:web")
    assert "-> port of the endpoint (a mirror's copy)" in text


def test_a_copy_that_is_dropped_is_not_why_the_packet_is() -> None:
    outcome, reason, _ = verdict(DB, hop("h1", DENIED, end("drop", "COPY", branch="copy", origin="mirror/m1")))
    assert (outcome, reason) == ("dropped", "in ACL_IN on h1, by the flow of policy/amber:in:web")


def test_a_copy_in_the_tunnel_to_the_targets_host_is_not_followed() -> None:
    copy = end("output", "COPY", branch="copy", port=65279, vtep="192.0.2.2", vni=4000)
    assert verdict(NFV, hop("h1", copy, DENIED))[0] == "dropped"
    sent = end("output", port=65279, vtep="192.0.2.2", vni=7)
    assert verdict(NFV, hop("h1", copy, sent), hop("h2", end("output", endpoint="far", port=3)))[0] == "delivered"


def test_of_a_floods_copies_that_for_the_target_counts() -> None:
    for_db = end("drop", "ACL_OUT", endpoint="db", origin="acl/quiet#1")
    other = end("drop", "MIRROR", endpoint="other")
    assert verdict(DB, hop("h1", for_db, end("output", endpoint="third", port=4), other))[1].startswith("in ACL_OUT on h1")
    assert verdict(DB, hop("h1", other, end("output", endpoint="db", port=2)))[0] == "delivered"


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (end("output", port=9), "from h1: port 9"),
        (end("output", endpoint="nfv", port=9), "from h1: port of endpoint nfv"),
        (end("output", port=65279, vtep="192.0.2.9", vni=7), "from h1: tunnel to 192.0.2.9"),
        (end("answered"), "from h1: answered by the switch"),
        (end("controller", "ROUTE"), "from h1: to the controller"),
    ],
)
def test_a_packet_that_goes_elsewhere_is_not_dropped(way: dict[str, Any], reason: str) -> None:
    assert verdict(DB, hop("h1", way))[:2] == ("sent elsewhere", reason)


def test_a_port_that_sends_nothing_is_named() -> None:
    lost = end("output", port=2, endpoint="db", problem="Nonexistent output port")
    assert verdict(DB, hop("h1", lost))[1] == "in OUTPUT on h1, by the flow of some/OUTPUT (Nonexistent output port)"


def test_the_answer_of_an_agent_that_tells_no_ends_is_taken() -> None:
    old = {key: value for key, value in PASSED.items() if key != "branch"}
    answer = {"host": "h1", "packet": "", "steps": [old], "to_tunnel": True, "vtep": "192.0.2.2", "vni": 7, "delivered_to": []}
    last = {**answer, "host": "h2", "to_tunnel": False, "delivered_to": ["far"]}
    assert verdict(NFV, answer, last)[0] == "delivered"
    assert verdict(DB, {**answer, "to_tunnel": False})[:2] == ("dropped", "on h1")


STATE = snapshot(
    (key, value, born)
    for born, (key, value) in enumerate(
        (
            worlds.host("h1", "198.18.0.11"),
            worlds.acl("web", [{"proto": "tcp", "tcp_dst": 80, "actions": {"allow": 1}}]),
            worlds.network("amber", 7, v6=False, default=("web",)),
            worlds.network("eyes", 8, v6=False),
            worlds.network("teal", 9, v6=False, mode="nat"),
            worlds.network("green", 10, v6=False, mode="nat"),
            worlds.endpoint("web", "amber", "h1", 2, 1, v6=False),
            worlds.endpoint("mon", "eyes", "h1", 3, 2, v6=False),
            worlds.endpoint("eye", "eyes", "h1", 4, 3, v6=False),
        ),
        1,
    )
)


def checked(source: str, target: str, port: int) -> dict[str, Any]:
    rules = ["acl/web#1"] if port == 80 else ["policy/amber:in:web"]
    steps = [{**PASSED, "table": "ACL_IN", "origin": origin} for origin in rules]

    def trace(*_: object) -> dict[str, Any]:
        return {"verdict": "dropped", "reason": "in FORWARD", "hosts": [{"steps": steps}]}

    pair = [STATE.endpoints[name] for name in (source, target)]
    return decide(STATE, "web", *pair, Check(src=source, dst=target, proto="tcp", port=port), trace)


def test_specs_and_switches_agree_that_nothing_passes_between_isolated_networks() -> None:
    allowed_by_the_rules = checked("web", "mon", 80)
    assert allowed_by_the_rules["agree"]
    assert allowed_by_the_rules["by_specs"] == {
        "allow": False, "rules": ["web#1"], "reason": "nothing passes, because no router joins the networks amber and eyes",
    }  # fmt: skip
    assert checked("web", "mon", 22)["by_specs"]["reason"] == "no rule of web allows it"


def test_an_acl_that_does_not_apply_is_refused_with_what_passes_instead() -> None:
    with pytest.raises(Conflict, match="no ACL applies: nothing passes, because no router joins the networks eyes and amber"):
        checked("mon", "web", 80)
    with pytest.raises(Conflict, match="no ACL applies: everything passes"):
        checked("mon", "eye", 80)
