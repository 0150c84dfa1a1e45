"""Ports that hypervisors put on the bridge: which are read as such, which endpoint has one, what Warren writes to the row, and which rule names it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.endpoints import hypervisor
from agent.endpoints.plugging import desired
from ovsdb.operations import ClaimPort, ReleasePort
from ovsdb.replica import Replica
from ovsdb.rows import ObservedPort
from ovsdb.transact import operations
from specs.documents.export import export
from specs.model.adoption import Adoption, rule_for
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.snapshot import Snapshot
from warren.errors import Conflict, Invalid, Unavailable

ID, MAC = "b58dd804-5bcd-4504-abce-910512244654", "52:54:00:71:b1:b6"
LIBVIRT = {"attached-mac": MAC, "iface-id": ID, "vm-id": "11111111-2222-3333-4444-555555555555", "iface-status": "active"}
NETWORK = decode(
    Network,
    {"id": "n1", "name": "blue", "vxlan_vni": 1, "ip_range": "10.0.0.0/24", "dhcp": True, "reservations": [{"mac": MAC, "ipv4_address": "10.0.0.77"}]},
)  # fmt: skip


def endpoint(**fields: Any) -> Endpoint:
    data = {
        "id": "e1",
        "network_id": "n1",
        "host": "h1",
        "mac_address": "02:57:0a:00:00:02",
        "ipv4_address": "10.0.0.2",
        "ofport": 1,
    }
    return decode(Endpoint, {**data, "iface_id": ID, **fields})


def port(name: str = "vnet0", **ids: str | None) -> ObservedPort:
    """A port as libvirt makes it, with further external_ids (None: without)."""
    merged = {**LIBVIRT, **{key.replace("_", "-"): value for key, value in ids.items()}}
    return ObservedPort(name, ofport=3, external_ids={key: value for key, value in merged.items() if value is not None})


@pytest.mark.parametrize(
    ("ids", "iface_id", "owner"),
    [
        ({}, ID, None), ({"iface_status": None}, ID, None), ({"iface_id": ID.upper()}, ID, None), ({"iface_id": ID.replace("-", "")}, ID, None),
        ({"iface_id": "vm1/eth0"}, "vm1/eth0", None), ({"iface_status": "inactive"}, None, None), ({"iface_id": None}, None, None),
        ({"iface_id": ""}, None, None), ({"warren_network": "blue"}, None, None), ({"owner": "warren"}, None, None),
        ({"warren_endpoint": "e1"}, ID, "e1"), ({"warren_endpoint": "e1", "iface_id": None}, None, None),
        ({"warren_endpoint": "e1", "iface_status": "inactive"}, None, None),
    ],
)  # fmt: skip
def test_a_row_is_a_hypervisors_by_its_external_ids(ids: dict[str, str | None], iface_id: str | None, owner: str | None) -> None:
    row = port(**ids)
    assert row.iface_id == iface_id
    assert (row.endpoint if not row.ours else None) == owner


def test_an_endpoint_has_the_one_port_with_its_id() -> None:
    others = [port("vnet1", iface_id="other"), ObservedPort("eth5"), port("vnet2", iface_status="inactive")]
    assert hypervisor.port_of(ID, [*others, port()]) == hypervisor.MachinePort(row=port(), mac=MAC)
    assert hypervisor.port_of(ID, [port(attached_mac=None)]).mac is None
    assert hypervisor.port_of(ID, [port(attached_mac="52-54-00-71-B1-B6")]).mac == MAC
    with pytest.raises(Unavailable, match="does the machine run"):
        hypervisor.port_of(ID, others)
    with pytest.raises(Conflict, match="vnet0, vnet9"):
        hypervisor.port_of(ID, [port("vnet9"), port()])
    for mac in ("x", "01:00:5e:00:00:01", "00:00:00:00:00:00", ""):
        with pytest.raises(Invalid, match="attached-mac"):
            hypervisor.port_of(ID, [port(attached_mac=mac)])


def test_of_endpoints_with_one_id_the_first_has_the_port() -> None:
    first, second, born = endpoint(), endpoint(id="e0"), {"endpoint/e1": 7, "endpoint/e0": 8}
    hypervisor.require_first(first, [second, first], born)
    with pytest.raises(Conflict, match="that of endpoint e1"):
        hypervisor.require_first(second, [second, first], born)
    hypervisor.require_first(second, [second, endpoint(active=False)], born)


def test_a_mac_that_nobody_chose_gives_way_to_the_machines() -> None:
    taken = hypervisor.at_port(endpoint(), NETWORK, hypervisor.MachinePort(row=port(), mac=MAC))
    assert (taken.device, taken.mac_address, str(taken.ipv4_address)) == ("vnet0", MAC, "10.0.0.77")
    other = hypervisor.at_port(endpoint(), NETWORK, hypervisor.MachinePort(row=port(), mac="52:54:00:00:00:01"))
    assert (other.mac_address, str(other.ipv4_address)) == ("52:54:00:00:00:01", "10.0.0.2")
    unstated = hypervisor.at_port(endpoint(), NETWORK, hypervisor.MachinePort(row=port(), mac=None))
    assert unstated.mac_address == "02:57:0a:00:00:02"
    with pytest.raises(Conflict, match="52:54:00:00:00:09"):
        hypervisor.at_port(endpoint(mac_address="52:54:00:00:00:09"), NETWORK, hypervisor.MachinePort(row=port(), mac=MAC))


def test_differences_name_what_is_not_so() -> None:
    plugged = endpoint(device="vnet0", mac_address=MAC)
    marked = port(warren_endpoint="e1")
    assert hypervisor.differences(plugged, {"vnet0": marked}) == ()
    assert hypervisor.differences(plugged, {"vnet0": port()}) == ("port vnet0 is not marked as the endpoint's",)
    assert hypervisor.differences(plugged, {"vnet1": replace(marked, name="vnet1")}) == ("its port is vnet1 instead of vnet0",)
    assert (
        "is for MAC 52:54:00:00:00:01"
        in hypervisor.differences(plugged, {"vnet0": port(warren_endpoint="e1", attached_mac="52:54:00:00:00:01")})[0]
    )
    assert "does the machine run" in hypervisor.differences(plugged, {})[0]


def test_a_claim_adds_a_key_to_the_row_that_has_the_id_and_a_release_removes_ours_alone() -> None:
    (claim,) = operations([ClaimPort(port(), "e1")], {}, {})
    assert claim["where"] == [["name", "==", "vnet0"], ["external_ids", "includes", ["map", [["iface-id", ID]]]]]
    assert claim["mutations"] == [
        ["external_ids", "delete", ["set", ["warren-endpoint"]]], ["external_ids", "insert", ["map", [["warren-endpoint", "e1"]]]],
    ]  # fmt: skip
    (release,) = operations([ReleasePort("vnet0", "e1")], {}, {})
    assert release["mutations"] == [["external_ids", "delete", ["map", [["warren-endpoint", "e1"]]]]]


def test_the_replica_has_a_claimed_port_as_the_endpoints_and_as_somebody_elses() -> None:
    def row(**ids: str) -> SimpleNamespace:
        columns = {"type": "", "options": {}, "ofport": [3], "ofport_request": [], "error": [], "mtu_request": []}
        return SimpleNamespace(uuid="u1", name="vnet0", external_ids={**LIBVIRT, **ids}, **columns)

    replica = Replica()
    replica.row_changed(False, "Interface", row())
    assert (replica.ofports, replica.take_endpoints_changed(), replica.take_changed()) == ({}, set(), {"ports", "bridge"})
    replica.row_changed(False, "Interface", row(**{"warren-endpoint": "e1"}))
    assert (replica.ofports, replica.take_endpoints_changed(), replica.take_changed()) == ({"e1": 3}, {"e1"}, {"ports", "bridge"})
    assert replica.observed(endpoints=False).ports["vnet0"].endpoint == "e1"
    replica.row_changed(True, "Interface", row())
    assert (replica.ofports, replica.take_endpoints_changed(), replica.observed(endpoints=False).ports) == ({}, {"e1"}, {})


@pytest.mark.parametrize(
    ("rule", "device", "iface_id", "applies"),
    [
        ({"iface_id": "*"}, "vnet0", ID, True), ({"iface_id": "*"}, "vnet0", None, False), ({"iface_id": ID.upper()}, "x", ID, True),
        ({"iface_id": "b58*"}, "vnet0", ID, True), ({"iface_id": "c*"}, "vnet0", ID, False), ({"match": "vnet*"}, "vnet0", ID, True),
        ({"match": "tap*", "iface_id": "*"}, "vnet0", ID, False), ({"match": "vnet*", "iface_id": "*"}, "vnet0", ID, True),
        ({"iface_id": "*", "host": "h2"}, "vnet0", ID, False), ({"iface_id": "*"}, "wv0123456789ab", ID, False),
    ],
)  # fmt: skip
def test_a_rule_names_ids(rule: dict[str, str], device: str, iface_id: str | None, applies: bool) -> None:
    assert decode(Adoption, {"network": "blue", **rule}).applies("h1", device, iface_id) is applies


def test_a_rule_about_ids_counts_before_one_about_names_and_is_named_after_them() -> None:
    rules = [
        decode(Adoption, {"network": "blue", **each})
        for each in ({"match": "vnet*"}, {"iface_id": "*"}, {"iface_id": "b5*"}, {"match": "v*", "host": "h1"})
    ]
    for order in (rules, rules[::-1]):
        chosen = [rule_for(host, "vnet0", order, iface_id) for host in ("h1", "h2") for iface_id in (ID, "x", None)]
        assert [each and each.name for each in chosen] == ["vANY.h1", "vANY.h1", "vANY.h1", "iface-b5ANY", "iface-ANY", "vnetANY"]
    for wrong in ({}, {"iface_id": ""}, {"iface_id": "a b"}, {"iface_id": 7}, {"iface_id": "x" * 129}):
        with pytest.raises(Invalid):
            decode(Adoption, {"network": "blue", **wrong})


def test_the_record_says_where_the_port_is_and_a_document_does_not() -> None:
    record = endpoint(device="vnet0")
    assert record.veth == "vnet0"
    assert record.used
    assert not endpoint().used
    assert not desired(record, NETWORK, Snapshot(), offload_off=True).mac_at_far_end
    assert "device" not in export(Snapshot(endpoints={"e1": record}))
    assert f"iface_id: {ID}" in export(Snapshot(endpoints={"e1": record}))
    assert "iface_id" not in endpoint(iface_id=None).data()
    for more in (
        {"netns": "/run/netns/x"},
        {"port": "eth1"},
        {"machine": "web"},
        {"interface": "eth0"},
        {"iface_id": "a b"},
        {"iface_id": ""},
    ):
        with pytest.raises(Invalid):
            endpoint(**more)
