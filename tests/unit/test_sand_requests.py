"""Bodies of SAND's routes: what SAND's server takes is taken, and what has Warren's own fields is read strictly."""

from __future__ import annotations

import json

import pytest

from agent.api.sand_requests import check_prefix, endpoint_request, network_request
from specs.model.network import Network
from warren.errors import Invalid, NotFound

STRICT = "respond-async, handling=strict"


@pytest.mark.parametrize(
    ("body", "title", "name", "ip_range", "gateway"),
    [
        (b"null", "", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b"{}", "", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b' \n{"name": "a"} and more', "a", "a", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"id":"","name":"","type":"","ip_range":"","gateway":""}', "", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"colour": {"a": [1]}, "name": "a"}', "a", "a", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"Name": "a", "IP_RANGE": "10.7.0.0/16"}', "a", "a", "10.7.0.0/16", "10.7.0.1/16"),
        ('{"ip_range": "10.7.0.0/16", "\u212aind": 1}'.encode(), "", "net-sc-i", "10.7.0.0/16", "10.7.0.1/16"),
        (b'{"name": null, "ip_range": null, "gateway": null}', "", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"name": "two words / \xc3\xa9 \xff"}', "two words / \u00e9 \ufffd", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"name": "\\ud800x"}', "\ufffdx", "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"name": "' + b"n" * 300 + b'"}', "n" * 300, "net-sc-i", "10.0.0.0/24", "10.0.0.1/24"),
        (b'{"ip_range": "10.7.0.0/16", "gateway": "10.7.0.9"}', "", "net-sc-i", "10.7.0.0/16", "10.7.0.9/16"),
        (b'{"gateway": "10.0.0.9"}', "", "net-sc-i", "10.0.0.0/24", "10.0.0.9/24"),
    ],
    ids=range(13),
)
def test_a_network_is_read_as_go_reads_it(body: bytes, title: str, name: str, ip_range: str, gateway: str) -> None:
    request = network_request(body)
    values = request.body.values("i")
    assert (request.title, values["name"], str(values["ip_range"]), str(values["gateway"])) == (title, name, ip_range, gateway)


@pytest.mark.parametrize(
    ("body", "prefer", "message"),
    [
        (b'{"colour": 1, "mtu": 1400}', "", "colour: there is no such field"),
        (b'{"Mode": "nat"}', "", "Mode: there is no such field"),
        (b'{"Name": "a", "labels": {}}', "", "Name: there is no such field"),
        (b'{"name": "two words", "mode": "nat"}', "", "name: 'two words'"),
        (b'{"colour": 1}', STRICT, "colour: there is no such field"),
        (b'{"name": "two words"}', "handling=strict", "name: 'two words'"),
        (b'{"name": 5}', "", "name: 5"),
        (b'{"ip_range": "10.0.0.1/24"}', "", "ip_range: '10.0.0.1/24'"),
        (b"", "", "body is missing"),
        (b"\xef\xbb\xbf{}", "", "not JSON"),
        (b"[]", "", "a JSON object"),
        (b'{"name": NaN}', "", "not JSON"),
        (b'{"a":' * 100_000, "", "nested too deeply"),
    ],
    ids=range(13),
)
def test_a_network_that_is_wrong_is_refused(body: bytes, prefer: str, message: str) -> None:
    with pytest.raises(Invalid) as error:
        network_request(body, prefer)
    assert message in str(error.value)


def test_a_strict_request_has_no_title_and_may_ask_for_no_ipv4() -> None:
    request = network_request(b'{"name": "a", "ip_range": null}', STRICT)
    assert (request.title, request.body.values("i")["ip_range"]) == (None, None)
    assert network_request(b'{"name": "a"}', "handling=lenient").title == "a"


def endpoint(prefer: str = "", **body: object) -> tuple[object, ...]:
    request = endpoint_request(json.dumps(body).encode(), prefer).body
    return request.activate, request.netns, request.set_addresses, request.move_interface


def test_an_endpoint_is_read_as_go_reads_it() -> None:
    zero = {"ns_handle_path": "/n", "set_addr": False, "move_veth": False}
    assert endpoint(network_id="n", activate=True, activate_params=zero) == (True, "/n", True, True)
    assert endpoint(NETWORK_ID="n", Activate=True, Activate_Params={"Ns_Handle_Path": "/n", "x": 1}) == (True, "/n", True, True)
    assert endpoint(network_id="n", ns_handle_path="/n") == (True, "/n", True, True)  # as SAND's README has it
    passive = (False, None, True, True)
    assert endpoint(network_id="n") == endpoint(network_id="n", activate=None) == passive
    assert (
        endpoint(network_id="n", activate_params=zero) == endpoint(network_id="n", activate=False, ns_handle_path="/n") == passive
    )
    assert endpoint(network_id="n", name="web", activate_params=zero) == (True, "/n", True, True)
    warrens = {"set_addresses": False, "move_interface": False}
    assert endpoint(STRICT, network_id="n", ns_handle_path="/n", **warrens) == (True, "/n", False, False)


@pytest.mark.parametrize(
    ("body", "prefer", "path"),
    [
        ({"activate": True}, "", "activate_params.ns_handle_path"),
        ({"network_id": "n", "activate": True, "activate_params": {"ns_handle_path": ""}}, "", "activate_params.ns_handle_path"),
        ({"network_id": "n", "activate": "perhaps"}, "", "activate"),
        ({"network_id": 7}, "", "network_id"),
        ({"network_id": "n", "ipv4_address": "10.0.0.300/24"}, "", "ipv4_address"),
        ({"network_id": "n", "ipv4_address": "fd00::1/64"}, "", "ipv4_address"),
        ({"network_id": "n", "name": "web", "colour": 1}, "", "colour"),
        ({"network_id": "n", "name": "web", "ipv4_address": "10.0.0.9/24"}, "", "ipv4_address"),
        ({"network_id": "n", "activate_params": {"ns_handle_path": "/n", "set_addr": False}}, STRICT, "activate_params.set_addr"),
        (
            {"network_id": "n", "activate_params": {"ns_handle_path": "/n", "move_veth": False}},
            STRICT,
            "activate_params.move_veth",
        ),
    ],
    ids=range(10),
)
def test_an_endpoint_that_is_wrong_is_refused(body: dict[str, object], prefer: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        endpoint_request(json.dumps(body).encode(), prefer)
    assert error.value.path == path


@pytest.mark.parametrize("body", ["null", "{}", '{"network_id": ""}', '{"network_id": "no such / \\u0000 network"}'])
def test_a_network_that_cannot_exist_is_not_found(body: str) -> None:
    with pytest.raises(NotFound):
        endpoint_request(body.encode())


def test_a_prefix_behind_an_address_must_be_the_networks() -> None:
    network = Network(id="n", name="n", vxlan_vni=1, ip_range="10.0.0.0/24")
    for address, right in (("10.0.0.51/24", True), ("10.0.0.51", True), ("10.0.0.51/16", False), ("10.0.1.51/24", False)):
        request = endpoint_request(json.dumps({"network_id": "n", "ipv4_address": address}).encode())
        assert str(request.body.ipv4_address) == address.partition("/")[0]
        if right:
            check_prefix(request, network)
        else:
            with pytest.raises(Invalid, match="ipv4_address"):
                check_prefix(request, network)
