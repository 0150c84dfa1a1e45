"""`null` in a document takes a value away, for every field of every kind: the record is then as if it had never been stated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.api.apply import Application, NotApplied
from specs import keys
from specs.documents.document import SECTIONS, parse
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.values import Delete
from warren.errors import Invalid

# an item of each section with its required fields, in a document with all that it refers to
BASE: dict[str, list[dict[str, Any]]] = {
    "hosts": [{"name": "h1", "vtep": "192.0.2.1"}, {"name": "h2", "vtep": "192.0.2.2"}],
    "networks": [{"name": "n", "id": "n", "ip_range": "10.0.0.0/24", "ipv6_range": "fd00:1::/64", "mode": "nat"},
                 {"name": "m", "id": "m", "ip_range": "10.1.0.0/24", "mode": "nat"}, {"name": "bare", "id": "bare"}],
    "endpoints": [{"name": "e", "id": "e", "network": "n", "host": "h1"}, {"name": "trunk", "id": "trunk", "network": "m", "host": "h1"}],
    "acls": [{"name": "a", "rules": [{"actions": {"allow": 1}}]}],
    "meters": [{"name": "slow", "rate": 10}],
    "sites": [{"name": "east"}],
    "profiles": [{"name": "default"}, {"name": "wide", "hosts": ["all"]}],
    "tenants": [{"name": "default"}, {"name": "acme"}],
    "clusters": [{"name": "default"}],
    "mirrors": [{"name": "copy", "sources": [{"network": "n"}], "to": {"host": "h1", "interface": "tap0"}}],
    "routers": [{"name": "r", "networks": ["n", "m"]}],
    "adopt": [{"name": "r", "match": "ve-*", "network": "n"}],
    "services": [{"name": "s", "network": "n", "host_port": 80, "port": 80, "label": "x"}],
}  # fmt: skip
# section -> field -> a value that is not the default, and what else the item needs for it
SAMPLES: dict[str, dict[str, tuple[Any, dict[str, Any]]]] = {
    "networks": {
        "dhcp": (True, {}), "dns": (["192.0.2.53"], {}), "domain": ("example.org", {}), "dhcp_lease_s": (60, {}),
        "dhcp_routes": ([{"to": "10.9.0.0/16", "via": "10.0.0.9"}], {}), "mtu": (1400, {}), "vlan": (7, {}), "vlan_transparent": (True, {}),
        "mode": ("routed", {}), "default_acl": (["a"], {}), "vlan_out_acl": (["a"], {}), "nat_acl": (["a"], {}),
        "ct_limit": (10, {}), "host_access": ("all", {}), "preallocate": (1, {}), "labels_required": (False, {}), "labels": ({"a": "b"}, {}),
        "boot": ({"file": "boot.ipxe", "server": "10.0.0.5"}, {}), "ntp": (["10.0.0.5"], {}), "search": (["example.org"], {}),
        "reservations": ([{"mac": "02:00:00:00:00:01", "ipv4_address": "10.0.0.5"}], {}), "dhcp_pool": ({"first": "10.0.0.5", "last": "10.0.0.9"}, {}), "dns_server": (True, {}),
        "gateway": ("10.0.0.9/24", {}), "title": ("Amber, the first", {}), "ipv6_gateway": ("fd00:1::9/64", {}),
    },
    "endpoints": {
        "mac_address": ("02:00:00:00:00:01", {}), "ipv4_address": ("10.0.0.77", {}), "ipv6_address": ("fd00:1::77", {}),
        "interface": ("eth7", {}), "netns": ("/run/netns/x", {}), "active": (False, {}), "acls": (["a"], {}),
        "publish": ([{"host_port": 81, "port": 80}], {}), "labels": ({"a": "b"}, {}), "name": ("other", {}), "allowed": ([{"address": "10.0.0.100"}], {}),
        "port": ("eth9", {"network": "bare"}), "vlan": (5, {"network": "bare", "port": "eth8"}),
        "aliases": (["www"], {}), "machine": ("web", {"interface": "host0"}),
        "keep_netns": (True, {"netns": "/run/netns/kept", "interface": "host0"}),
        "coprocessor": (True, {"network": "bare", "port": "eth7"}), "parent": ("trunk", {"vlan": 5}),
        "device": ("tap0", {}), "iface_id": ("vm1", {}),
    },
    "hosts": {
        "acls": (["a"], {}), "labels": ({"a": "b"}, {}), "bridge": ({"datapath_id": "1"}, {}), "api": ("http://192.0.2.1:1", {}),
        "underlay_mtu": (9000, {}), "site": ("east", {}), "outside": ({"address": "203.0.113.1"}, {}), "underlay": ("cloud", {}),
    },
    "sites": {"underlay_mtu": (1500, {})},
    "profiles": {"listen": ("0.0.0.0", {}), "mtu": (1300, {}), "encryption": ("always", {}), "cipher": ("ipsec", {}), "rule": ("-e vxlan -s files -p vxlan/listen_ip=0.0.0.0,files/config=/x.json", {}), "hosts": (["h1"], {"name": "default"})},
    "acls": {"description": ("words", {})},
    "meters": {"burst": (5, {}), "packets": (True, {})},
    "tenants": {"acls": (["a"], {}), "vni": ("5000-5009", {"name": "acme"}), "vlan": ("100-109", {"name": "acme"}), "max_networks": (5, {"name": "acme"})},
    "clusters": {"transit4": ("198.18.0.0/15", {}), "transit6": ("fd12:3456:7800::/56", {})},
    "mirrors": {"direction": ("in", {}), "match": ({"proto": "tcp"}, {}), "snap": (100, {}), "vlan": (7, {}), "active": (False, {})},
    "routers": {},
    "adopt": {"match": ("ve-*", {"iface_id": "*"}), "iface_id": ("*", {}), "host": ("h1", {}), "labels": ({"a": "b"}, {})},
    "services": {"proto": ("udp", {})},
}  # fmt: skip
STAYS = {
    "networks": ("vxlan_vni", "id", "type", "tenant", "profile", "admin"),
    "profiles": ("port",),
    "endpoints": ("ofport", "id"),
    "meters": ("meter_id",),
    "clusters": ("name",),
}
ONE_OF_TWO = {
    "networks": ("ip_range", "ipv6_range"),
    "services": ("label", "endpoints"),
    "hosts": ("vtep",),
}  # below: they have tests of their own


def test_there_is_a_sample_for_every_field() -> None:
    for section, kind in SECTIONS.items():
        optional = {name for name, field in kind.model_fields.items() if not field.is_required()}
        covered = {*SAMPLES[section], *STAYS.get(section, ()), *ONE_OF_TWO.get(section, ())}
        assert covered == optional, section


class World:
    """A store with the base document."""

    def __init__(self, store: Store) -> None:
        self.store, self.specs = store, Repository(store)
        self.apply(**BASE)

    def apply(self, **document: Any) -> int:
        """Apply a document; return the number of changes."""
        work = Application(self.store, self.specs, parse(json.dumps(document)), prune=False)
        list(work.check())
        list(work.write())
        return len(work.changes)

    def records(self) -> dict[str, Any]:
        """All records, without the time of their creation, and without the tunnel addresses of hosts, which stay once they are allocated."""
        entries = self.store.list(keys.SPEC)[1]
        return {
            e.key: {k: v for k, v in json.loads(e.value).items() if k not in ("created_at", "tunnel_address")} for e in entries
        }


@pytest.mark.parametrize(("section", "field"), [(s, f) for s, fields in SAMPLES.items() for f in fields])
def test_null_takes_a_value_away(store: Store, section: str, field: str) -> None:
    world = World(store)
    if field in ("mode", "transit4", "transit6"):  # services, routers and endpoints need what they have
        store.txn((), [Delete(prefix, prefix=True) for prefix in (keys.ROUTERS, keys.SERVICES, keys.ENDPOINTS)])
    value, more = SAMPLES[section][field]
    item = BASE[section][0] | more
    without = item | ({"vlan": None} if field == "parent" else {}) | {field: None}
    world.apply(**{section: [without]})
    before = world.records()
    assert world.apply(**{section: [item | {field: value}]}) == 1
    assert world.records() != before
    for changes in (1, 0):
        assert world.apply(**{section: [without]}) == changes or "ipv" in field  # another address may be allocated
        assert world.records() == before


@pytest.mark.parametrize(("section", "field"), [(s, f) for s, fields in STAYS.items() for f in fields])
def test_what_is_allocated_stays_with_null(store: Store, section: str, field: str) -> None:
    world = World(store)
    before = world.records()
    assert world.apply(**{section: [BASE[section][0] | {field: None}]}) == 0
    assert world.records() == before


def test_null_for_what_cannot_change_is_refused(store: Store) -> None:
    world = World(store)
    with pytest.raises(NotApplied, match=r"ipv6_range cannot change \(from fd00:1::/64 to nothing\)"):
        world.apply(networks=[BASE["networks"][0] | {"ipv6_range": None}])
    with pytest.raises(Invalid, match="endpoints or label, one of the two"):
        world.apply(services=[BASE["services"][0] | {"label": None}])
    with pytest.raises(Invalid, match=r"hosts\[0\].vtep"):
        world.apply(hosts=[BASE["hosts"][0] | {"vtep": None}])
    assert world.apply(services=[BASE["services"][0] | {"label": None, "endpoints": ["e"]}]) == 1
    assert world.apply(services=[BASE["services"][0] | {"endpoints": None}]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "endpoints: [{name: e, network: n, host: h, publish: [{host_port: 1, port: 1, proto: null, host_ip: null}]}]",
        "endpoints: [{name: e, network: n, host: h, port: eth0, coprocessor: {strategy: null, vlan_vid_base: null}}]",
        "hosts: [{name: h, vtep: 192.0.2.1, bridge: {datapath_id: null, mac: null, datapath_type: null, controllers: null}}]",
        "mirrors: [{name: m, sources: [{network: n, endpoint: null, label: null}], to: {host: h, interface: i, key: null, version: null}}]",
    ],
)
def test_null_is_the_default_inside_a_value_too(text: str) -> None:
    assert parse(text) == parse(text.replace(": null", ": ~"))


@pytest.mark.parametrize("section", list(SECTIONS))
def test_null_is_refused_for_what_is_required(section: str) -> None:
    required = [name for name, field in SECTIONS[section].model_fields.items() if field.is_required()]
    for field in required:
        with pytest.raises(Invalid) as error:
            parse(json.dumps({section: [BASE[section][0] | {field: None}]}))
        assert error.value.path.startswith(f"{section}[0].{field}")
