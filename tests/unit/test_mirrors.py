"""Mirror sessions on one host: sources, targets, and conflicts."""

from __future__ import annotations

import re

import pytest

from controller.compiler.compile import compile_view
from intent.recompute import view
from intent.views import View
from pipeline.tables import Table
from specs.model.base import decode
from specs.model.mirror import Mirror
from specs.snapshot import snapshot
from tests.unit import worlds
from warren.errors import Invalid

HOSTS = [worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12")]
NETWORK = worlds.network("amber", 7)
PORTS = {"e1": 1, "ids": 9}
WATCHED = worlds.endpoint("e1", "amber", "h1", 2, 1)
FAR = worlds.endpoint("e2", "amber", "h2", 3, 1)
IDS = worlds.endpoint("ids", "amber", "h1", 9, 9)
TO_IDS = {"network": "amber", "endpoint": "ids"}


def seen(*entries: tuple[str, str]) -> View:
    return view(
        snapshot((k, v, n) for n, (k, v) in enumerate((*HOSTS, NETWORK, *entries), 1)), "h1", PORTS, 65279, None, {"tap0": 77}
    )


def test_the_target_is_never_a_source() -> None:
    view = seen(WATCHED, FAR, IDS, worlds.mirror("all", [{"network": "amber"}], TO_IDS))
    (session,) = view.sessions
    assert {mac for _, mac in session.senders} == {"02:57:0a:00:00:02", "02:57:0a:00:00:03"}
    marked = {e.id for e in view.endpoints if e.copies_in or e.copies_out}
    assert marked == {"e1"}


def test_of_two_sessions_with_one_vni_the_first_created_has_it() -> None:
    """By hand in etcd; Warren itself gives every session its own. A network's VNIs count too."""
    to = {"host": "h1", "interface": "tap0"}
    view = seen(WATCHED, worlds.mirror("first", [{"network": "amber"}], to), worlds.mirror("second", [{"network": "amber"}], to))
    assert {session.name for session in view.sessions} == {"first"}
    assert [p.reason for p in view.problems] == ["VNI 4000 belongs to mirror first"]
    flows = compile_view(view).flows
    assert len({(flow.table, flow.priority, flow.match) for flow in flows}) == len(flows)
    for vni in (7, 7 ^ 1 << 23):
        (problem,) = seen(WATCHED, worlds.mirror("m", [{"network": "amber"}], to, vni=vni)).problems
        assert problem.reason == f"VNI {vni} belongs to network amber"


def test_a_missing_mirror_target_is_reported() -> None:
    for to, reason in (
        ({"network": "amber", "endpoint": "nobody"}, "endpoint amber/nobody does not exist"),
        ({"host": "h1", "interface": "tap9"}, "its target is not plugged in"),
        ({"host": "h9", "interface": "tap0"}, "host h9 does not exist"),
        ({"gre": "192.0.2.9"}, "the port to its collector is not there"),
    ):
        view = seen(WATCHED, worlds.mirror("m", [{"network": "amber"}], to))
        assert [problem.reason for problem in view.problems] == [reason]
        assert not view.sessions


def test_a_packet_that_matches_several_filters_is_copied_once() -> None:
    to, matches = {"host": "h1", "interface": "tap0"}, ({"proto": "udp", "udp_dst": 53}, {"proto": "udp", "udp_src": 53})
    view = seen(WATCHED, worlds.mirror("m", [{"network": "amber"}], to, match=(*matches, matches[0])))
    chosen = [flow.match for flow in compile_view(view).flows if flow.table is Table.COPY and flow.actions]
    assert len(chosen) == len(set(chosen)) == 2 * 2 * 2  # two filters, both families, both directions


def test_a_capture_is_a_session_unless_a_mirror_has_its_name() -> None:
    source, to = {"network": "amber", "endpoint": "e1"}, {"host": "h1", "interface": "tap0"}
    capture = worlds.capture("capture-1", source, "h1", 4001)
    assert {session.vni for session in seen(WATCHED, capture).sessions} == {4001}
    assert {session.vni for session in seen(WATCHED, capture, worlds.mirror("capture-1", [source], to)).sessions} == {4000}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sources": []}, "sources"),
        ({"to": {"host": "h1"}}, "one of"),
        ({"to": {"gre": "192.0.2.9"}, "snap": 64}, "snap"),
        ({"match": {"tcp_dst": 80}}, "match.tcp_dst"),
        ({"match": {"from": {"label": "x"}}}, "from"),
        ({"match": [{"dl_type": 0x806}, {"tcp_dst": 80}]}, "match[1].tcp_dst"),
        ({"match": [{"to": {"label": "x"}}]}, "to"),
        ({"match": []}, "a match"),
        ({"sources": [{"network": "amber", "endpoint": "a", "label": "b"}]}, "endpoint or label"),
        ({"direction": "sideways"}, "direction"),
    ],
)
def test_invalid_sessions_are_refused_with_their_path(fields: dict[str, object], text: str) -> None:
    good = {"name": "m", "vni": 9, "sources": [{"network": "amber"}], "to": TO_IDS}
    decode(Mirror, good, "mirror")
    with pytest.raises(Invalid, match=re.escape(text)):
        decode(Mirror, good | fields, "mirror")
