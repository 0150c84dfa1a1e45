"""The Docker driver with real engines, one on each of two hosts: networks both ways, addresses, policy, ports, crashes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import run
from tests.e2e.conftest import World
from tests.e2e.test_restart import eventually

BUSYBOX = Path("/bin/busybox")
PLUGINS = Path("/run/docker/plugins")
APPLETS = ("sh", "sleep", "ping", "ip", "cat", "nc", "httpd", "wget", "mkdir")


def image() -> bytes:
    """A root with busybox, as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "proc", "sys", "tmp", "dev"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


class Engine:
    """dockerd in a host's namespace. `driver` is the name of its host's plugin."""

    def __init__(self, world: World, host: str) -> None:
        self.host, self.world = host, world
        self.directory = world.plan.host(host).directory  # type: ignore[union-attr]
        self.driver = f"{world.plan.name}{host}"
        self.netns = f"{world.plan.name}-{host}"
        PLUGINS.mkdir(parents=True, exist_ok=True)
        self.link = PLUGINS / f"{self.driver}.sock"
        self.link.symlink_to(self.directory / "docker-plugin.sock")
        self.data = Path(f"/var/lib/warren-test-{self.driver}")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", "--live-restore", f"--data-root={self.data}",
                   f"--exec-root={self.directory}/docker-exec", f"-H=unix://{self.directory}/docker.sock",
                   f"--pidfile={self.directory}/docker.pid"]  # fmt: skip
        log = (self.directory / "docker.log").open("ab")
        process = subprocess.Popen(run.in_netns(self.netns, "dockerd", *options), stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: self.docker("version", check=False) != "", 60)
        return process

    def docker(self, *words: str, check: bool = True, data: bytes | None = None) -> str:
        """The docker client; its standard output, or its error when that is allowed."""
        command = ["/usr/bin/docker", "-H", f"unix://{self.directory}/docker.sock", *words]
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
        if check:
            assert done.returncode == 0, done.stderr.decode()
        return (done.stdout if done.returncode == 0 else b"" if words[0] == "version" else done.stderr).decode().strip()

    def refused(self, *words: str) -> str:
        """What the client says when the engine refuses."""
        done = subprocess.run(["/usr/bin/docker", "-H", f"unix://{self.directory}/docker.sock", *words], capture_output=True, text=True,
                              timeout=60, check=False)  # fmt: skip
        assert done.returncode != 0, done.stdout
        return done.stderr

    def start(self, name: str, network: str, *options: str) -> str:
        """A container that sleeps; its address."""
        self.docker("run", "-d", "--name", name, *options, "--network", network, "busybox", "sleep", "3600")
        return self.address(name, network)

    def address(self, name: str, network: str) -> str:
        """Its address in a network, as Docker has it."""
        told = json.loads(self.docker("inspect", name))[0]["NetworkSettings"]["Networks"]
        return str(told[network]["IPAddress"])

    def reaches(self, name: str, address: str) -> bool:
        """Whether pings from a container are answered."""
        return " 0% packet loss" in self.docker("exec", name, "ping", "-c", "2", "-W", "1", address, check=False)

    def close(self) -> None:
        """End everything."""
        containers = self.docker("ps", "-aq", check=False).split()
        if containers:
            self.docker("rm", "-f", *containers, check=False)
        for network in self.docker("network", "ls", "-q", "--filter", f"driver={self.driver}", check=False).split():
            self.docker("network", "rm", network, check=False)
        self.process.terminate()
        self.process.wait(30)
        self.link.unlink(missing_ok=True)
        for mounted in sorted((line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()), reverse=True):
            if mounted.startswith(str(self.data)):
                subprocess.run(["umount", "-l", mounted], check=False)
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture(scope="module")
def engines(world: World) -> Iterator[tuple[Engine, Engine]]:
    if not shutil.which("dockerd") or not BUSYBOX.exists():
        pytest.skip("needs docker.io and busybox-static")
    found: list[Engine] = []
    try:
        for host in ("h1", "h2"):
            found.append(Engine(world, host))
            found[-1].docker("import", "-", "busybox", data=image())
        yield found[0], found[1]
    finally:
        for engine in found:
            engine.close()
    eventually(lambda: docked(world) == [], 20)


def docked(world: World) -> list[str]:
    """Endpoints that Docker has."""
    found = run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"]
    return [e["id"] for e in found if "docker.endpoint" in e["labels"]]


def apply(world: World, **sections: Any) -> None:
    body = {"document": json.dumps(sections), "wait_s": 20}
    assert run.api(world.plan.hosts[0], "POST", "/apply", timeout_s=40, **body)["late"] == []


def test_one_network_by_name_on_two_hosts(world: World, engines: tuple[Engine, Engine]) -> None:
    """SAND's way: both engines name the same Warren network, and share its addresses."""
    run.api(world.plan.hosts[0], "POST", "/networks", name="shared", ip_range="10.31.0.0/24")
    for engine in engines:
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=shared",
                      "--subnet", "10.31.0.0/24", "-o", "warren.network=shared", "net")  # fmt: skip
    one, other = engines[0].start("one", "net", "--label", "role=web"), engines[1].start("other", "net")
    assert {one, other} == {"10.31.0.2", "10.31.0.3"}
    assert engines[0].reaches("one", other)
    assert engines[1].reaches("other", one)
    assert engines[0].start("fixed", "net", "--ip", "10.31.0.77", "--mac-address", "0e:99:00:00:00:07") == "10.31.0.77"
    assert "0e:99:00:00:00:07" in engines[0].docker("exec", "fixed", "ip", "link", "show", "eth0")
    assert "is taken by" in engines[1].refused("run", "--network", "net", "--ip", "10.31.0.77", "busybox", "sleep", "1")
    told = run.api(world.plan.hosts[0], "GET", "/endpoints/one")["endpoint"]
    assert (told["labels"]["role"], told["hostname"], told["target_veth_ip"]) == ("web", "h1", "10.31.0.2/24")
    engines[0].docker("restart", "-t", "0", "one")
    assert engines[0].reaches("one", other)


def test_a_network_that_docker_describes(world: World, engines: tuple[Engine, Engine]) -> None:
    """dovesnap's way, on one host: mode nat, the gateway, a published port, an ACL by option."""
    engine = engines[0]
    apply(world, acls={"mute": [{"dl_type": 0x806, "actions": {"allow": 1}}]})
    engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.32.0.0/24",
                  "-o", "ovs.bridge.mode=nat", "-o", "ovs.bridge.dpid=0x1", "made")  # fmt: skip
    served = engine.start("server", "made", "-p", "18080:80")
    engine.docker("exec", "server", "sh", "-c", "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; httpd -p 80 -h /tmp/w")
    engine.start("client", "made")
    assert engine.reaches("client", served)
    assert engine.reaches("client", "10.32.0.1")
    url = "http://198.18.0.11:18080/index.html"
    eventually(lambda: world.inside("h1", "curl", "-s", "-m", "2", url).stdout == "hello\n", 10)
    assert "published by" in engine.refused("run", "--network", "made", "-p", "18080:80", "busybox", "sleep", "1")
    engine.start("mute", "made", "--label", "warren.acl=mute")
    assert not engine.reaches("mute", served)
    assert "expected" in engine.refused("network", "create", "-d", engine.driver, "-o", "ovs.bridge.mode=bridge", "bad")
    assert "expected" in engine.refused("network", "create", "-d", engine.driver, "-o", "warren.colour=red", "bad")


def test_connect_disconnect_and_kill(world: World, engines: tuple[Engine, Engine]) -> None:
    engine = engines[0]
    before = set(docked(world))
    engine.start("two", "net")
    engine.docker("network", "connect", "made", "two")
    assert len(set(docked(world)) - before) == 2
    assert engine.reaches("two", engine.address("client", "made"))
    engine.docker("network", "disconnect", "made", "two")
    assert len(set(docked(world)) - before) == 1
    pid = json.loads(engine.docker("inspect", "two"))[0]["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(docked(world)) == before, 10)
    engine.docker("rm", "-f", "two")


def test_an_agent_and_an_engine_that_start_again(world: World, engines: tuple[Engine, Engine]) -> None:
    engine, other = engines
    before = set(docked(world))
    run.restart(world.plan, "h1", "agent", signal.SIGKILL)
    run.wait_until_up(world.plan)
    assert engine.reaches("one", other.address("other", "net"))
    assert set(docked(world)) == before
    engine.process.terminate()
    engine.process.wait(30)
    assert engine.reaches is not None
    engine.process = engine._start()
    assert engine.reaches("one", other.address("other", "net"))
    engine.start("late", "net")
    assert engine.reaches("late", other.address("other", "net"))


def test_a_container_that_goes_while_the_agent_is_away_is_found(world: World, engines: tuple[Engine, Engine]) -> None:
    engine = engines[0]
    before = set(docked(world))
    engine.start("brief", "net")
    run.stop(world.plan, "h1", "agent", signal.SIGKILL)
    removal = subprocess.Popen(
        ["/usr/bin/docker", "-H", f"unix://{engine.directory}/docker.sock", "rm", "-f", "brief"], stdout=subprocess.DEVNULL
    )
    assert removal.wait(100) == 0  # the engine asks for 15 s at each of its calls
    run.start(world.plan, "h1", "agent")
    eventually(lambda: set(docked(world)) == before, 30)
    assert engine.reaches("one", engines[1].address("other", "net"))


def test_many_at_once_have_an_address_each(world: World, engines: tuple[Engine, Engine]) -> None:
    started = [
        subprocess.Popen(["/usr/bin/docker", "-H", f"unix://{engine.directory}/docker.sock", "run", "-d", "--name", f"many{number}",
                          "--network", "net", "busybox", "sleep", "3600"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for engine in engines for number in range(8)
    ]  # fmt: skip
    for process in started:
        assert process.wait(120) == 0, process.stderr and process.stderr.read()
    addresses = [engine.address(f"many{number}", "net") for engine in engines for number in range(8)]
    assert len(set(addresses)) == 16
    assert engines[0].reaches("many0", addresses[-1])
    names = [f"many{number}" for number in range(8)]
    for engine in engines:
        engine.docker("rm", "-f", *names)
    eventually(
        lambda: (
            not set(addresses)
            & {e["target_veth_ip"].split("/")[0] for e in run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"]}
        ),
        20,
    )


def test_nothing_is_left(world: World, engines: tuple[Engine, Engine]) -> None:
    for engine in engines:
        engine.docker("rm", "-f", *engine.docker("ps", "-aq").split())
    eventually(lambda: docked(world) == [], 20)
    for engine in engines:
        engine.docker("network", "rm", *engine.docker("network", "ls", "-q", "--filter", f"driver={engine.driver}").split())
    time.sleep(0.5)
    names = {n["name"] for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"]}
    assert not [name for name in names if name.startswith("docker-")]
    assert "shared" in names
    run.api(world.plan.hosts[0], "DELETE", "/networks/shared")
