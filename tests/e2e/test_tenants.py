"""A tenant's networks: their numbers are its own, and every list, the picture and the metrics can be narrowed to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
