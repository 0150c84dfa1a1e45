"""A tenant's networks: their numbers are its own, and every list, the picture and the metrics can be narrowed to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run


def warren(world: World, *words: str) -> Any:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "tools.cli.main", "--lab", world.plan.name, *words, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(world: World, *words: str) -> str:
    command = [sys.executable, "-m", "tools.cli.main", "--lab", world.plan.name, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1
    return done.stderr


@contextmanager
def acme(world: World) -> Iterator[str]:
    """A tenant with a network in mode nat, for a while; yields the id of the network."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/tenants", name="acme", vni="5000-5009", vlan="100-199", max_networks=2)
    try:
        network = run.api(first, "POST", "/networks", name="acme-shop", tenant="acme", ip_range="10.61.0.0/24", mode="nat")[
            "network"
        ]
        try:
            assert network["vxlan_vni"] == 5000
            yield network["id"]
        finally:
            run.api(first, "DELETE", f"/networks/{network['id']}")
    finally:
        run.api(first, "DELETE", "/tenants/acme")


def test_everything_can_be_narrowed_to_a_tenant(world: World, tmp_path: Path) -> None:
    first = world.plan.hosts[0]
    with acme(world) as network_id, world.temporary("till", "h1", network_id, publish=[{"host_port": 18061, "port": 80}]):
        run.api(first, "POST", "/services", name="tills", network="acme-shop", host_port=18062, port=80, endpoints=["till"])
        run.api(first, "POST", "/mirrors", name="watch", sources=[{"network": "acme-shop"}], to={"gre": "198.18.0.99"})
        try:
            for kind, names in (("network", ["acme-shop"]), ("endpoint", ["till"]), ("service", ["tills"]), ("mirror", ["watch"]),
                                ("router", []), ("port", [])):  # fmt: skip
                assert [
                    each.get("unique_name") or each["name"] for each in warren(world, kind, "list", "--tenant", "acme")
                ] == names
            assert [each["endpoint"] for each in warren(world, "publish", "list", "--tenant", "acme")] == ["till"]
            others = [each["unique_name"] for each in run.api(first, "GET", "/networks?tenant=default")["networks"]]
            assert {"amber", "blue"} <= set(others)
            assert "acme-shop" not in others
            picture = [sys.executable, "-m", "tools.graph", "--lab", world.plan.name, "-o", str(tmp_path / "a.json")]
            subprocess.run([*picture, "--tenant", "acme"], check=True)
            nodes = {node["id"] for node in json.loads((tmp_path / "a.json").read_text())["nodes"]}
            assert {"network acme-shop", "endpoint acme-shop/till"} <= nodes
            assert not {"network amber", "endpoint amber/web"} & nodes
            scrape = ("curl", "-s", "-m", "5", "http://127.0.0.1:9303/metrics")
            eventually(lambda: 'endpoint="till",network="acme-shop",tenant="acme"' in world.inside("h1", *scrape).stdout)
        finally:
            run.api(first, "DELETE", "/mirrors/watch")
            run.api(first, "DELETE", "/services/tills")
    for kind in ("networks", "endpoints", "services", "mirrors", "routers"):
        with pytest.raises(run.LabError, match="tenant 'acme' does not exist"):
            run.api(first, "GET", f"/{kind}?tenant=acme")


def test_a_tenant_is_changed_field_by_field(world: World) -> None:
    first = world.plan.hosts[0]
    with acme(world):
        changed = warren(world, "tenant", "update", "acme", "--vni", "5000-5019", "--remove", "vlan", "--remove", "max-networks")
        assert changed["vni"] == "5000-5019"
        assert not {"vlan", "max_networks"} & changed.keys()
        run.api(first, "PATCH", "/tenants/acme", max_networks=1)
        assert run.api(first, "GET", "/tenants/acme")["tenant"]["vni"] == "5000-5019"
        for method, path, body, error in (
            ("POST", "/networks", {"name": "acme-two", "tenant": "acme", "ip_range": "10.62.0.0/24"}, "may have 1"),
            ("PATCH", "/tenants/acme", {"vni": "6000-6009"}, "5000"),
            ("PATCH", "/tenants/acme", {"size": 1}, "size"),
            ("PATCH", "/tenants/nobody", {"vni": "1-2"}, "nobody"),
        ):
            with pytest.raises(run.LabError, match=error):
                run.api(first, method, path, **body)
        assert "vni" in refused(world, "tenant", "update", "acme", "--vni", "5000", "--remove", "vni")
        assert "size" in refused(world, "tenant", "update", "acme", "--remove", "size")


RANGE = "10.63.0.0/24"


def test_two_tenants_have_networks_of_one_name(world: World, tmp_path: Path) -> None:
    first = world.plan.hosts[0]
    document: dict[str, Any] = {
        "tenants": [{"name": "acme"}, {"name": "globex"}],
        "acls": [{"name": "no-red", "rules": [{"from": {"network": "acme/red"}, "actions": {"allow": 0}}, {"actions": {"allow": 1}}]}],
        "networks": [
            {"name": "acme/blue", "ip_range": RANGE, "mode": "nat"},
            {"name": "blue", "tenant": "globex", "ip_range": RANGE, "mode": "nat"},  # the short name is the laboratory's
            {"name": "acme/red", "ip_range": "10.64.0.0/24", "mode": "nat", "vlan_out_acl": ["no-red"]},
        ],
        "routers": [{"name": "acme-core", "networks": ["acme/blue", "acme/red"]}],
    }  # fmt: skip
    try:
        names = [change["name"] for change in world.apply(**document) if change["kind"] == "network"]
        assert names == ["acme/blue", "globex/blue", "acme/red"]
        assert world.apply(**document) == []
        with (
            world.temporary("ta1", "h1", "acme/blue", ipv4_address="10.63.0.2"), world.temporary("ta2", "h2", "acme/blue", ipv4_address="10.63.0.3"),
            world.temporary("tg1", "h1", "globex/blue", ipv4_address="10.63.0.2"),
            world.temporary("tg2", "h2", "globex/blue", ipv4_address="10.63.0.4"),
            world.temporary("tr1", "h2", "acme/red", ipv4_address="10.64.0.2"),
        ):  # fmt: skip
            run.api(first, "POST", "/services", name="g-web", network="globex/blue", host_port=18063, port=80, endpoints=["tg1"])
            assert world.reaches("ta1", "10.63.0.3")
            assert world.reaches("tg1", "10.63.0.4")
            assert world.reaches("ta1", "10.64.0.2")
            assert not world.pings("tg1", "10.64.0.2"), "only acme's network is joined to red"
            assert not world.pings("ta1", "10.63.0.4"), "the other tenant's endpoint has the address"
            assert not world.pings("tg1", "10.63.0.3"), "the other tenant's endpoint has the address"
            assert warren(world, "network", "show", "acme/blue")["unique_name"] == "acme/blue"
            assert warren(world, "network", "show", "globex/blue")["tenant"] == "globex"
            assert warren(world, "endpoint", "show", "globex/blue/tg2")["network"] == "globex/blue"
            assert run.api(first, "GET", "/networks/acme%2Fblue") == run.api(first, "GET", "/networks/acme/blue")
            listed = [each["name"] for each in warren(world, "endpoint", "list", "--network", "globex/blue")]
            assert sorted(listed) == ["tg1", "tg2"]
            assert "acme/red" in refused(world, "network", "show", "red")
            assert "nobody" in refused(world, "network", "create", "nobody/blue")
            assert "acme/new" in refused(world, "network", "create", "acme/new", "--tenant", "globex")
            assert "acme-core" in refused(world, "network", "delete", "acme/blue")
            assert "delivered" in run_trace(world, "acme/blue/ta1", "acme/blue/ta2")
            picture = [sys.executable, "-m", "tools.graph", "--lab", world.plan.name, "-o", str(tmp_path / "a.json")]
            subprocess.run([*picture, "--network", "globex/blue"], check=True)
            nodes = {node["id"] for node in json.loads((tmp_path / "a.json").read_text())["nodes"]}
            assert {"network globex/blue", "endpoint globex/blue/tg1"} <= nodes
            scrape = ("curl", "-s", "-m", "5", "http://127.0.0.1:9303/metrics")
            eventually(lambda: 'endpoint="tg1",network="globex/blue",tenant="globex"' in world.inside("h1", *scrape).stdout)
            assert run.api(first, "GET", "/routers/acme-core")["router"]["ranges"].keys() == {"acme/blue", "acme/red"}
    finally:
        for path in ("services/g-web", "routers/acme-core", "networks/acme/blue", "networks/globex%2Fblue", "networks/acme/red",
                     "acls/no-red", "tenants/acme", "tenants/globex"):  # fmt: skip
            with suppress(run.LabError):
                run.api(first, "DELETE", f"/{path}")


def run_trace(world: World, source: str, target: str) -> str:
    """What `warren trace` prints."""
    command = [sys.executable, "-m", "tools.cli.main", "--lab", world.plan.name, "trace", source, target]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
