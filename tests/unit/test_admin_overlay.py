"""The admin overlay: what a network of hosts must be, and which endpoint a host needs."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest

from agent.endpoints.admin_overlay import Needed, needed
from agent.gateway.filters import Forwarding, chains
from agent.gateway.host_access import Machines, host_access
from intent.gateway import gateway_of
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.documents.export import export
from specs.model.admin import HOST_NAMESPACE, host_endpoint_id
from specs.model.base import decode
from specs.model.cluster import transit
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.hostnet import HostNetwork, HostPrefix
from specs.model.network import Network, default_gateways
from specs.obstacles import check_admin_networks, check_hosts
from specs.snapshot import Snapshot
from warren.errors import Conflict, Invalid

BASE = {"id": "n", "name": "admin", "vxlan_vni": 2, "ip_range": "10.44.44.0/24", "admin": {}}


def overlay(**fields: Any) -> Network:
    return decode(Network, {**BASE, **fields}, "network")


def endpoint_of(host: str = "h1", address: str = "10.44.44.1", **fields: Any) -> Endpoint:
    data = {
        "id": host_endpoint_id("n", host), "name": host, "network_id": "n", "host": host, "mac_address": "02:57:0a:2c:2c:01",
        "ofport": 1, "netns": HOST_NAMESPACE, "interface": "warren-admin", "ipv4_address": address,
    }  # fmt: skip
    return decode(Endpoint, data | fields, "endpoint")


def host(name: str) -> Host:
    return decode(Host, {"name": name, "vtep": f"192.0.2.{name[1:]}"}, "host")


def state(network: Network | None, hostnets: Mapping[str, HostNetwork] | None = None) -> Snapshot:
    networks = {network.id: network} if network is not None else {}
    return Snapshot(hosts={name: host(name) for name in ("h1", "h2")}, networks=networks, hostnets=dict(hostnets or {}))


def has(prefix: str, via: str = "eth0", kind: Any = "interface") -> dict[str, HostNetwork]:
    return {"h1": HostNetwork(name="h1", prefixes=(HostPrefix(prefix=ip_network(prefix), kind=kind, via=via),))}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mode": "nat"}, "mode"),
        ({"dhcp": True}, "dhcp"),
        ({"dns_server": True}, "dns_server"),
        ({"preallocate": 1}, "preallocate"),
        ({"gateway": "10.44.44.1/24"}, "gateway"),
        ({"ip_range": None}, "ip_range"),
        ({"admin": {"addresses": {"h1": "10.44.45.1"}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h1": "10.44.44.0"}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h1": "10.44.44.255"}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h1": "fd00::1"}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h1": "10.44.44.1", "h2": "10.44.44.1"}}}, "admin.addresses.h2"),
        ({"admin": {"addresses": {"h1": ["10.44.44.1", "10.44.44.2"]}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h1": []}}}, "admin.addresses.h1"),
        ({"admin": {"addresses": {"h 1": "10.44.44.1"}}}, "admin.addresses"),
        ({"admin": {"addresses": {"h1": 1}}}, "admin.addresses.h1"),
        ({"admin": {"hosts": {}}}, "admin.hosts"),
    ],
)
def test_what_the_overlay_cannot_have_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as error:
        overlay(**fields)
    assert error.value.path.startswith(f"network.{path}"), error.value


def test_hosts_may_have_both_versions_and_every_address_but_the_edges() -> None:
    both = overlay(ipv6_range="fd00::/64", admin={"addresses": {"h1": ["10.44.44.1", "fd00::1"], "h9": "10.44.44.254"}})
    assert both.admin is not None
    assert {field: str(address) for field, address in both.admin.of_host("h1").items()} == {
        "ipv4_address": "10.44.44.1", "ipv6_address": "fd00::1"}  # fmt: skip
    assert both.admin.of_host("h2") == {}
    assert default_gateways(both) == {}
    assert overlay(ip_range=None, ipv6_range="fd00::/64").ip_range is None
    assert "admin" not in overlay(admin=None).data(), "agents of an earlier version read other networks"


def test_a_host_needs_its_own_endpoint_with_the_address_that_it_is_given() -> None:
    network, pinned = overlay(), overlay(admin={"addresses": {"h1": "10.44.44.9"}})
    nothing = Needed((), (), ())
    assert needed("h1", state(network), []) == Needed((), (network,), ())
    assert needed("h1", state(network), [endpoint_of()]) == nothing
    assert needed("h1", state(pinned), [endpoint_of(address="10.44.44.9")]) == nothing
    assert needed("h1", state(pinned), [endpoint_of()]) == Needed((endpoint_of(),), (pinned,), ())
    assert needed("h1", state(None), [endpoint_of()]) == Needed((endpoint_of(),), (), ())
    assert needed("h1", state(overlay(admin=None)), [endpoint_of()]) == Needed((endpoint_of(),), (), ())
    assert needed("h1", state(network), [endpoint_of(active=False)]) == Needed((endpoint_of(active=False),), (network,), ())
    container = endpoint_of(id="c", name="c", netns="/run/netns/c")
    assert needed("h1", state(None), [container]) == nothing, "containers are none of its business"


@pytest.mark.parametrize(
    ("prefix", "kind"), [("10.44.44.0/25", "interface"), ("10.44.0.0/16", "interface"), ("10.44.44.0/24", "route")]
)
def test_the_hosts_own_network_comes_first(prefix: str, kind: str) -> None:
    network, taken = overlay(), has(prefix, kind=kind)
    stale, missing, refused = needed("h1", state(network, taken), [])
    assert (stale, missing) == ((), ())
    assert prefix in refused[0]
    with pytest.raises(Conflict, match="h1"):
        check_hosts(network, {"h1": host("h1")}, taken)


def test_its_own_interface_and_wider_routes_are_not_in_its_way() -> None:
    network = overlay()
    for free in (has("10.44.44.0/24", via="warren-admin"), has("10.0.0.0/8", kind="route")):
        assert needed("h1", state(network, free), []).missing == (network,)
    routed = decode(Network, {**BASE, "id": "r", "name": "r", "admin": None, "mode": "routed"}, "network")
    with pytest.raises(Conflict, match="warren-admin"):
        check_hosts(routed, {"h1": host("h1")}, has("10.44.44.0/24", via="warren-admin"))


def test_there_is_one_overlay_and_no_network_that_hosts_reach_has_its_addresses() -> None:
    flat = decode(Network, {**BASE, "id": "f", "name": "f", "admin": None}, "network")
    check_admin_networks(overlay(), [flat])
    for other in (
        flat.model_copy(update={"mode": "routed"}),
        flat.model_copy(update={"mode": "nat"}),
        overlay(id="o", name="other"),
    ):
        with pytest.raises(Conflict, match=other.name):
            check_admin_networks(overlay(), [other])


def test_containers_reach_it_no_more_than_hosts() -> None:
    inside = decode(Network, {"id": "a", "name": "a", "vxlan_vni": 7, "ip_range": "10.0.0.0/24", "mode": "nat"}, "network")
    gateway = gateway_of(inside, 1, None, 0, transit())
    assert gateway is not None
    snapshot = state(overlay(ipv6_range="fd44::/64"))
    access = host_access(snapshot, {"a": inside}, {"a": gateway}, Machines(addresses={}), [])
    assert {"10.44.44.0/24", "fd44::/64"} <= set(access.hosts) & set(access.machines)
    rules = "\n".join(chains((), access, Forwarding(), transit(), (4789,)))
    assert "10.44.44.0/24" in rules.split("chain to_machines")[1].split("}\n    chain")[0]


def test_documents_do_not_speak_of_the_endpoints_of_hosts() -> None:
    snapshot = state(overlay())
    snapshot.endpoints[endpoint_of().id] = endpoint_of()
    assert "endpoints: []" in export(snapshot)
    assert "admin: {}" in export(snapshot) or "addresses" in export(snapshot)
    assert diff(parse(export(snapshot)), snapshot, prune=True) == ()
