"""Wanted OVSDB rows against existing ones: the operations, which touch Warren's own rows only."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsdb.jsonstream import Parser
from ovsdb.operations import CreateBridge, CreatePort, DeleteBridge, DeletePort, SetControllers, UpdateBridge, UpdatePort, diff
from ovsdb.rows import (
    BRIDGE,
    ENDPOINT_KEY,
    Bridge,
    Observed,
    ObservedBridge,
    ObservedPort,
    endpoint_port,
    integration_bridge,
    port_differences,
)
from ovsdb.transact import operations, results
from pipeline.tunnels import TUNNEL_PORT
from tests.depth import texts
from warren.errors import Conflict, Unavailable

WANTED = integration_bridge(BRIDGE, "tcp:127.0.0.1:6653", "netdev", "h1")
MINE = {"owner": "warren"}


def world(bridge: Bridge = WANTED) -> Observed:
    """What there is once `bridge` has been made."""
    local = ObservedPort(bridge.name, "internal", ofport=65534)
    row = ObservedBridge(
        bridge.name,
        bridge.datapath_type,
        bridge.fail_mode,
        bridge.controllers,
        True,
        bridge.external_ids,
        bridge.other_config,
        local,
    )
    ports = {p.name: ObservedPort(p.name, p.type, p.options, 1, p.ofport_request, p.external_ids) for p in bridge.ports}
    return Observed({bridge.name: row}, {bridge.name: local, **ports})


def with_port(observed: Observed, port: ObservedPort) -> Observed:
    return replace(observed, ports={**observed.ports, port.name: port})


def with_bridge(observed: Observed, bridge: ObservedBridge) -> Observed:
    return replace(observed, bridges={**observed.bridges, bridge.name: bridge})


def test_an_empty_database_gets_everything() -> None:
    assert diff((WANTED,), Observed()) == (CreateBridge(WANTED),)


def test_a_complete_database_gets_no_operation() -> None:
    assert diff((WANTED,), world()) == ()


def test_changed_columns_are_repaired() -> None:
    row = world().bridge(BRIDGE)
    assert row is not None
    observed = with_bridge(world(), replace(row, fail_mode="standalone", controllers=("tcp:192.0.2.1:6653",), other_config={}))
    ops = diff((WANTED,), observed)
    assert ops == (
        UpdateBridge(BRIDGE, {"fail_mode": "secure"}, {}, WANTED.other_config),
        SetControllers(BRIDGE, ("tcp:127.0.0.1:6653",)),
    )


def test_controller_rows_without_warrens_limits_are_replaced() -> None:
    """Those that an older Warren has made, too: without the limit a flood of one port is all that the controller sees."""
    row = world().bridge(BRIDGE)
    assert row is not None
    ops = diff((WANTED,), with_bridge(world(), replace(row, controllers_as_ours=False)))
    assert ops == (SetControllers(BRIDGE, ("tcp:127.0.0.1:6653",)),)


def test_an_administrators_keys_stay() -> None:
    row = world().bridge(BRIDGE)
    assert row is not None
    observed = with_bridge(world(), replace(row, other_config={**row.other_config, "mine": "1"}))
    assert diff((WANTED,), observed) == ()


def test_a_changed_or_missing_tunnel_is_mended() -> None:
    port = world().port(TUNNEL_PORT)
    assert port is not None
    assert diff((WANTED,), with_port(world(), replace(port, options={}))) == (UpdatePort(WANTED.ports[0]),)
    without = replace(world(), ports={})
    assert diff((WANTED,), without) == tuple(CreatePort(BRIDGE, port) for port in sorted(WANTED.ports, key=lambda p: p.name))


@pytest.mark.parametrize(
    ("damage", "columns"),
    [
        ({"protocols": ("OpenFlow10",)}, {"protocols": ["set", ["OpenFlow10", "OpenFlow14"]]}),
        ({"stp_enable": True}, {"stp_enable": False}),
        ({"rstp_enable": True}, {"rstp_enable": False}),
        ({"datapath_type": "system"}, {"datapath_type": "netdev"}),
        ({"fail_mode": None}, {"fail_mode": "secure"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_column_that_cuts_packets_off_is_repaired(damage: dict[str, Any], columns: dict[str, Any]) -> None:
    row = world().bridge(BRIDGE)
    assert row is not None
    assert diff((WANTED,), with_bridge(world(), replace(row, **damage))) == (UpdateBridge(BRIDGE, columns),)


def test_further_versions_of_openflow_are_the_administrators() -> None:
    row = world().bridge(BRIDGE)
    assert row is not None
    assert diff((WANTED,), with_bridge(world(), replace(row, protocols=("OpenFlow10", "OpenFlow14")))) == ()


def test_an_unmarked_bridge_with_warrens_datapath_id_is_marked_again() -> None:
    row = world().bridge(BRIDGE)
    assert row is not None
    assert diff((WANTED,), with_bridge(world(), replace(row, external_ids={}))) == (UpdateBridge(BRIDGE, {}, MINE),)
    with pytest.raises(Conflict):
        diff((WANTED,), with_bridge(world(), replace(row, external_ids={}, other_config={})))


def test_an_unmarked_port_that_is_as_wanted_is_marked_again() -> None:
    port = world().port(TUNNEL_PORT)
    assert port is not None
    assert diff((WANTED,), with_port(world(), replace(port, external_ids={}))) == (UpdatePort(WANTED.ports[0]),)
    for foreign in ({"external_ids": {"owner": "neutron"}}, {"external_ids": {}, "type": "gre"}):
        with pytest.raises(Conflict):
            diff((WANTED,), with_port(world(), replace(port, **foreign)))  # type: ignore[arg-type]


def test_a_tunnel_that_failed_although_its_row_is_right_is_made_anew() -> None:
    port = world().port(TUNNEL_PORT)
    assert port is not None
    failed = replace(port, ofport=-1, error="vxlan type requires valid 'remote_ip' argument")
    assert diff((WANTED,), with_port(world(), failed)) == (DeletePort(TUNNEL_PORT),)
    assert diff((WANTED,), with_port(world(), replace(failed, options={}))) == (UpdatePort(WANTED.ports[0]),)


@pytest.mark.parametrize(
    ("damage", "difference"),
    [
        ({"external_ids": MINE}, "lacks external_ids:warren-endpoint=e"),
        ({"external_ids": {}}, "lacks external_ids:owner=warren"),
        ({"ofport_request": 9}, "has ofport_request 9 instead of 5"),
        ({"type": "internal"}, "has type 'internal' instead of ''"),
        ({"mtu_request": 900}, "has mtu_request 900 instead of None"),
        ({"error": "no such device"}, "failed: no such device"),
    ],
)
def test_each_difference_of_an_endpoints_port_is_named(damage: dict[str, Any], difference: str) -> None:
    port = endpoint_port("wv0", 5, "e", 7)
    whole = ObservedPort("wv0", ofport=5, ofport_request=5, external_ids=port.external_ids)
    assert port_differences(whole, port) == ()
    assert any(difference in line for line in port_differences(replace(whole, **damage), port))
    assert port_differences(None, port) == ("port wv0 is not in OVSDB",)


def test_stray_ports_of_warren_are_removed_and_foreign_ones_stay() -> None:
    observed = world()
    for port in (
        ObservedPort("stray", "vxlan", external_ids=MINE),
        ObservedPort("wv0123456789ab", external_ids={**MINE, ENDPOINT_KEY: "e1"}),
        ObservedPort("theirs", "vxlan", external_ids={"owner": "neutron"}),
        ObservedPort("nobodys", "vxlan"),
    ):
        observed = with_port(observed, port)
    observed = with_bridge(observed, ObservedBridge("br-int"))
    observed = with_bridge(observed, ObservedBridge("br-old", external_ids=MINE))
    assert diff((WANTED,), observed) == (DeletePort("stray"), DeleteBridge("br-old"))


def test_a_foreign_port_of_that_name_is_a_conflict() -> None:
    with pytest.raises(Conflict, match=BRIDGE):
        diff((WANTED,), Observed({BRIDGE: ObservedBridge(BRIDGE)}))
    with pytest.raises(Conflict, match=TUNNEL_PORT):
        diff((WANTED,), with_port(world(), ObservedPort(TUNNEL_PORT)))
    with pytest.raises(Conflict, match=TUNNEL_PORT):
        diff((WANTED,), Observed({}, {TUNNEL_PORT: ObservedPort(TUNNEL_PORT)}))


def test_hosts_have_different_datapath_ids_that_do_not_change() -> None:
    other = integration_bridge(BRIDGE, "tcp:127.0.0.1:6653", "netdev", "h2")
    assert WANTED.other_config["datapath-id"] != other.other_config["datapath-id"]
    assert WANTED.other_config["datapath-id"] == "07e1e049abc5950d"
    assert integration_bridge(BRIDGE, "tcp:127.0.0.1:6653", "netdev", "h1") == WANTED


def test_a_port_goes_in_and_out_by_mutation() -> None:
    made = operations([CreatePort(BRIDGE, endpoint_port("wv1", 7, "e1"))], {}, {})
    assert [op["op"] for op in made] == ["insert", "insert", "mutate"]
    assert made[0]["row"]["external_ids"] == ["map", [["owner", "warren"], [ENDPOINT_KEY, "e1"]]]
    assert made[0]["row"]["ofport_request"] == 7
    assert made[2]["mutations"] == [["ports", "insert", ["named-uuid", made[1]["uuid-name"]]]]
    gone = operations([DeletePort("wv1"), DeletePort("not there")], {"wv1": "u1"}, {})
    assert [op["mutations"] for op in gone] == [[["ports", "delete", ["uuid", "u1"]]]]


def test_a_mutation_of_no_row_is_an_error() -> None:
    """The bridge is gone: ovsdb-server answers with count 0 and without an error, and nothing was changed."""
    ops = operations([CreatePort(BRIDGE, endpoint_port("wv1", 7, "e1"))], {}, {})

    def answered(count: int) -> list[dict[str, object]]:
        return results(
            SimpleNamespace(error=None, result=[{"uuid": ["uuid", "u1"]}, {"uuid": ["uuid", "u2"]}, {"count": count}]), ops
        )

    assert answered(1)[-1] == {"count": 1}
    with pytest.raises(Unavailable, match=f"no bridge '{BRIDGE}'"):
        answered(0)


TEXTS = st.dictionaries(texts, st.one_of(texts, st.integers(), st.dictionaries(texts, texts)), max_size=4)


@given(st.lists(TEXTS, max_size=4), st.integers(1, 9))
def test_a_stream_of_json_is_split_and_decoded(messages: list[dict[str, object]], size: int) -> None:
    stream = "".join(json.dumps(message, ensure_ascii=False) for message in messages)
    decoded, parser, rest = [], Parser(), ""
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    for chunk in chunks:
        rest += chunk
        while rest:
            rest = rest[parser.feed(rest) :]
            if parser.is_done():
                decoded.append(parser.finish())
                parser = Parser()
    assert decoded == messages


def test_a_broken_stream_is_an_error_text() -> None:
    parser = Parser()
    assert parser.feed('{"a" 1}') == 7
    assert parser.is_done()
    assert isinstance(parser.finish(), str)
