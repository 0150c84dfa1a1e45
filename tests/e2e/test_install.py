"""scripts/install-system: files and units come and go, systemd opens the driver's socket, the compose file is valid. The image, the compose
stack and the managed plugin are tested by scripts/test-image."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.programs import PROGRAMS, program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.engine import LabEngine

ROOT = Path(__file__).parent.parent.parent
VENV = Path(sys.executable).parent.parent
COMPOSE = ROOT / "docker-compose.yml"


def install(root: Path, word: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DESTDIR": str(root), "WARREN_VENV": str(VENV), **more}
    return subprocess.run([ROOT / "scripts/install-system", word], env=environment, capture_output=True, text=True, check=False)


def test_install_system_installs_working_units_and_uninstall_removes_them(tmp_path: Path) -> None:
    assert install(tmp_path, "install", WARREN_VTEP="192.0.2.1").returncode == 0
    units = sorted((tmp_path / "etc/systemd/system").iterdir())
    assert [unit.name for unit in units] == ["warren-agent.service", "warren-controller.service", "warren-docker.socket"]
    plugin = tmp_path / "opt/cni/bin/warren"
    assert plugin.readlink() == VENV / "bin/warren-cni"
    assert (tmp_path / "usr/local/libexec/netavark/warren").readlink() == VENV / "bin/warren-netavark"
    settings = tmp_path / "etc/warren/warren.env"
    assert "WARREN_VTEP=192.0.2.1\n" in settings.read_text()
    settings.write_text("WARREN_VTEP=192.0.2.2\n")
    assert install(tmp_path, "install", WARREN_VTEP="192.0.2.1").returncode == 0
    assert settings.read_text() == "WARREN_VTEP=192.0.2.2\n"  # the user's own
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
        assert (checked.returncode, [line for line in checked.stderr.splitlines() if "warren" in line]) == (0, [])
    assert install(tmp_path, "remove").returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert install(tmp_path, "reinstall").returncode == 2


def test_the_underlays_daemon_is_installed_where_it_is_asked_for(tmp_path: Path) -> None:
    assert install(tmp_path, "install", WARREN_VTEP="192.0.2.1", WARREN_UNDERLAY="on").returncode == 2
    assert install(tmp_path, "install", WARREN_UNDERLAY="cloud").returncode == 0
    settings = (tmp_path / "etc/warren/warren.env").read_text()
    assert "\nWARREN_UNDERLAY=cloud\n" in settings
    assert "WARREN_VTEP" not in settings
    unit = tmp_path / "etc/systemd/system/warren-underlay.service"
    assert f"ExecStart={VENV}/bin/warren-underlay\n" in unit.read_text()
    assert (tmp_path / "usr/local/bin/cnctl").readlink() == VENV / "bin/cnctl"
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        lines = [line for line in checked.stderr.splitlines() if "warren" in line and "is not executable" not in line]
        assert lines == []  # an environment of before has no such command yet
    assert install(tmp_path, "remove").returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_the_drivers_socket_is_systemds(world: World, engines: list[LabEngine], tmp_path: Path) -> None:
    """The socket is there before the agent: Docker's first call starts it, and waits for its answer."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("needs systemd-socket-activate")
    engine, host = engines[1], world.plan.hosts[1]
    run.stop(world.plan, host.name, "agent")
    settings = [f"-E{name}={value}" for name, value in host.environment() if name != "WARREN_DOCKER_SOCKET"]
    command = (
        "systemd-socket-activate",
        f"-l{host.directory}/docker-plugin.sock",
        "--fdname=docker",
        *settings,
        host.process("agent").command[0],
    )
    with (host.directory / "agent.log").open("ab") as log:
        agent = subprocess.Popen(run.in_netns(host.netns, *command), stdout=log, stderr=log)
    try:
        eventually(lambda: (host.directory / "docker-plugin.sock").exists())
        engine.docker(
            "network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.40.0.0/24", "waited"
        )
        target = engine.run("one", "waited")
        engine.run("two", "waited")
        assert engine.reaches("two", target)
        engine.clean()
    finally:
        agent.terminate()
        agent.wait(timeout=LIMIT_S)
        (host.directory / "docker-plugin.sock").unlink(missing_ok=True)
        run.start(world.plan, host.name, "agent")
    run.wait_until_up(world.plan)
    settled(world, engines)


def test_the_compose_file_is_valid() -> None:
    command = next((c for c in (("docker", "compose"), ("docker-compose",)) if not _fails(*c, "version")), None)
    if command is None:
        pytest.skip("needs docker-compose")
    shown = subprocess.run(
        [*command, "-f", COMPOSE, "--profile", "monitoring", "config"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    for service in ("etcd", "ovs", "controller", "agent", "prometheus", "grafana"):
        assert f"\n  {service}:\n" in shown.stdout


def _fails(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode != 0
    except OSError:
        return True


def test_the_agent_works_in_the_sandbox_of_its_unit(world: World) -> None:
    """Its capabilities and file system; systemd alone can restrict address families. A container in mode nat, and a port below 1024."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(ROOT / "etc/systemd/warren-agent.service")
    capabilities = unit["Service"]["CapabilityBoundingSet"].lower().replace("cap_", "+").replace(" ", ",")
    host = world.plan.hosts[2]
    run.stop(world.plan, host.name, "agent")
    command = ("env", *(f"{name}={value}" for name, value in host.environment()), str(PROGRAMS / "sandbox.sh"), f"-all,{capabilities}",
               unit["Service"]["ReadWritePaths"], *host.process("agent").command)  # fmt: skip
    with (host.directory / "agent.log").open("ab") as log:
        agent = subprocess.Popen(run.in_netns(host.netns, *command), stdout=log, stderr=log)
    try:
        eventually(lambda: (host.directory / "agent.sock").exists())
        assert "CapBnd:\t0000000000" in Path(f"/proc/{agent.pid}/status").read_text()
        world.apply(networks=[{"name": "boxed", "ip_range": "10.78.0.0/24", "mode": "nat", "host_access": "all"}])
        run.container(world.plan, "boxed-1", "h3", "boxed", publish=[{"host_port": 443, "port": 80}])
        server = ready(world.background("boxed-1", *program("serve", "{client}", 80)))
        try:
            client = program("ask", "tcp", host.management, 443)
            eventually(lambda: world.inside("h2", *client).stdout.strip() == world.plan.hosts[1].management)
            assert "in use" in world.inside("h3", *program("bind", "tcp", "0.0.0.0", 443)).stdout
            assert world.reaches("boxed-1", world.plan.hosts[1].management)
        finally:
            server.kill()
            server.wait()
        endpoint = run.api(host, "GET", "/endpoints/boxed-1")["endpoint"]
        run.api(host, "DELETE", f"/endpoints/{endpoint['id']}")
        eventually(lambda: world.inside("h3", "nft", "list", "tables").stdout == "")
    finally:
        agent.terminate()
        agent.wait(timeout=LIMIT_S)
        run.start(world.plan, host.name, "agent")
    run.wait_until_up(world.plan)
