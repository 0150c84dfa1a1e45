"""The netavark plugin as podman and netavark start it, by the protocol and by Debian's netavark: two hosts, published ports, lost containers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tools.cni.plugin
from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.e2e.test_cni import Box, attached, box  # noqa: F401 (a fixture)
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.engine import NEWER
from tools.lab.plan import HostPlan

NETWORK = "netavark"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of netavark's with the plugin: the file alone."""
    directory = tmp_path_factory.mktemp("netavark")
    shutil.copy(tools.cni.plugin.__file__, directory / "warren")
    (directory / "warren").chmod(0o755)
    return directory


@pytest.fixture(scope="module", autouse=True)
def network(world: World) -> Iterator[None]:
    first = world.plan.hosts[0]
    run.api(
        first, "POST", "/networks", name=NETWORK, ip_range="10.66.0.0/24", mode="nat", dns=["192.0.2.53"], domain="example.org"
    )
    yield
    settled(world)
    run.api(first, "DELETE", f"/networks/{NETWORK}")


def execute(*command: str | Path, config: Any) -> tuple[int, Any]:
    done = subprocess.run(command, input=json.dumps(config), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def podmans(host: HostPlan, **more: Any) -> dict[str, Any]:
    """What podman gives to create."""
    options = {"socket": str(host.socket), "labels": "by=podman"}
    return {"name": NETWORK, "id": "4e91", "driver": "warren", "ipv6_enabled": False, "internal": False, "dns_enabled": True} | {
        "options": {**options, **more}
    }


def container(network: dict[str, Any], name: str, **more: Any) -> dict[str, Any]:
    """What netavark gives to setup and teardown."""
    options = {"interface_name": "eth0", "aliases": ["shop"], **more}
    ports = options.pop("port_mappings", None)
    return {
        "container_id": f"{name}0123", "container_name": name, "port_mappings": ports, "network": network, "network_options": options,
    }  # fmt: skip


def test_containers_of_two_hosts_reach_each_other(world: World, plugins: Path, box: Box) -> None:  # noqa: F811
    """create, setup and teardown by the protocol: addresses of Warren's, a published port, the container's name, aliases; nothing is left."""
    program, (h1, h2) = plugins / "warren", world.plan.hosts[:2]
    code, created = execute(program, "create", config=podmans(h1))
    assert (code, created["ipam_options"], created["options"]) == (0, {"driver": "none"}, podmans(h1)["options"])
    one, two = box("one"), box("two")
    ports = [{"container_port": 80, "host_ip": "", "host_port": 18500, "protocol": "tcp", "range": 2}]
    web = container(created, "web", static_mac="02:00:00:00:66:09", static_ips=["10.66.0.9"], port_mappings=ports)
    answer = {
        "dns_search_domains": ["example.org"],
        "dns_server_ips": ["192.0.2.53"],
        "interfaces": {
            "eth0": {"mac_address": "02:00:00:00:66:09", "subnets": [{"ipnet": "10.66.0.9/24", "gateway": "10.66.0.1"}]}
        },
    }
    assert execute(program, "setup", one, config=web) == (0, answer)
    assert execute(program, "setup", one, config=web) == (0, answer)  # podman may repeat it
    shown = run.api(h2, "GET", f"/endpoints/{NETWORK}/web")["endpoint"]
    assert (shown["hostname"], shown["state"], shown["aliases"], shown["labels"]["by"]) == ("h1", "up", ["shop"], "podman")
    assert "default via 10.66.0.1 dev eth0" in world.inside("one", "ip", "route").stdout
    other = container(podmans(h2), "other")
    code, reply = execute(program, "setup", two, config=other)
    assert code == 0
    assert world.reaches("two", "10.66.0.9")
    server = world.background("one", sys.executable, "-m", "http.server", "81", "-d", "/proc/self/fdinfo")
    try:
        fetch = ("curl", "-s", "-m", "2", f"http://{h1.vtep}:18501/")
        eventually(lambda: world.inside("h2", *fetch).returncode == 0)
    finally:
        server.kill()
        server.communicate()
    assert execute(program, "teardown", one, config=web) == (0, None)
    assert execute(program, "teardown", one, config=web) == (0, None)
    assert attached(world, NETWORK) == ["other0123"]
    box.remove("two")  # the container is lost: no teardown
    eventually(lambda: attached(world, NETWORK) == [])
    assert execute(program, "teardown", two, config=other) == (0, None)
    settled(world)


def test_errors_say_where(world: World, plugins: Path, box: Box) -> None:  # noqa: F811
    """One line in netavark's form, and nothing is left."""
    program, (h1, h2) = plugins / "warren", world.plan.hosts[:2]
    netns = box("one")
    for command, config, message in (
        (("create",), podmans(h1) | {"name": "nowhere"}, "network.name: 'nowhere': expected a network that is there"),
        (("create",), podmans(h1, network="nowhere"), "network.options.network: 'nowhere'"),
        (("create",), podmans(h1, vlan="7"), "network.options.vlan: there is no such field"),
        (("create",), podmans(h1) | {"subnets": [{"subnet": "10.9.0.0/24"}]}, "network.subnets[0].subnet: '10.9.0.0/24'"),
        (("setup", netns), container(podmans(h1), "c1", static_ips=["10.99.0.1"]), "10.66.0.0/24"),
        (("setup", netns), container(podmans(h1), "c1", static_ips=["10.66.0.1"]), "gateway"),
        (("setup", netns), container(podmans(h1), "c1", interface_name="lo"), "'lo' already exists"),
        (("setup", "/run/netns/nobody"), container(podmans(h1), "c1"), "/run/netns/nobody"),
    ):
        code, answer = execute(program, *command, config=config)
        assert (code, list(answer), message in answer["error"]) == (1, ["error"], True), answer
    run.stop(world.plan, "h2", "agent")
    try:
        code, answer = execute(program, "setup", netns, config=container(podmans(h2), "c1"))
        assert (code, "the agent of this host does not listen on" in answer["error"]) == (1, True)
    finally:
        run.start(world.plan, "h2", "agent")
    run.wait_until_up(world.plan)
    assert attached(world, NETWORK) == []


def test_the_real_netavark(world: World, plugins: Path, box: Box, tmp_path: Path) -> None:  # noqa: F811
    """Debian's netavark starts the plugin, understands its answer and shows its errors."""
    if not (NEWER / "netavark").exists():
        pytest.skip("needs scripts/install-engine")
    h1, netns = world.plan.hosts[0], box("one")
    code, created = execute(plugins / "warren", "create", config=podmans(h1))
    assert code == 0
    created = {name: value for name, value in created.items() if name != "created"}

    def netavark(command: str, **options: Any) -> tuple[int, Any]:
        config = {
            "container_id": "web0123",
            "container_name": "web",
            "networks": {NETWORK: {"interface_name": "eth0", **options}},
        }
        config |= {"network_info": {NETWORK: created}, "port_mappings": []}
        program = ("--config", str(tmp_path), "--plugin-directory", str(plugins), "--firewall-driver", "none", command, netns)
        return execute(*run.in_netns(h1.netns, str(NEWER / "netavark"), *program), config=config)

    code, answer = netavark("setup", static_ips=["10.66.0.77"])
    assert (code, list(answer)) == (0, [NETWORK]), answer
    assert answer[NETWORK]["interfaces"]["eth0"]["subnets"] == [{"ipnet": "10.66.0.77/24", "gateway": "10.66.0.1"}]
    assert attached(world, NETWORK) == ["web0123"]
    assert netavark("teardown", static_ips=["10.66.0.77"])[0] == 0
    assert attached(world, NETWORK) == []
    code, answer = netavark("setup", static_ips=["10.99.0.1"])
    assert (code, "10.66.0.0/24" in answer["error"]) == (1, True)
    assert attached(world, NETWORK) == []
