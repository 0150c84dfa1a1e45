"""podman and containerd from Debian with Warren's CNI plugin."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tools.cni.plugin
from tests.e2e.audit import settled
from tests.e2e.cni import conflist
from tests.e2e.conftest import World
from tests.e2e.podman import Podman, available
from tests.e2e.test_cni import PROGRAM, attached
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.engine import IMAGE

NETWORK = "runtimes"
CTR = """set -e
mount -t tmpfs none /opt; mkdir -p /opt/cni/bin; mount --bind {here}/bin /opt/cni/bin; mount --bind {here}/net.d /etc/cni/net.d
exec ctr -a {here}/containerd.sock "$@"
"""
CONTAINERD = """version = 2
root = "{here}/root"
state = "{here}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{here}/containerd.sock"
"""


@pytest.fixture(scope="module", autouse=True)
def network(world: World) -> Iterator[None]:
    run.api(world.plan.hosts[0], "POST", "/networks", name=NETWORK, ip_range="10.62.0.0/24", mode="nat", dns=["192.0.2.53"])
    yield
    settled(world)
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{NETWORK}")
    for kept in Path("/var/lib/cni/results").glob(f"{NETWORK}-*"):
        kept.unlink()  # the runtimes' own, of attachments that they could not or would not take away


@pytest.fixture(scope="module")
def podmans(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Podman]]:
    """One on h1, one on h2."""
    if not available():
        pytest.skip("needs podman, runc and busybox-static")
    directory = tmp_path_factory.mktemp("podman")
    (directory / "bin").mkdir()
    (directory / "bin/warren").symlink_to(PROGRAM)
    started: list[Podman] = []
    try:
        for host in world.plan.hosts[:2]:
            started.append(Podman(host, directory / host.name, directory / "bin"))
            started[-1].network(conflist(NETWORK, host.socket, version="1.0.0", labels={"by": "podman"}))
        yield started
    finally:
        for podman in started:
            podman.close()


def test_podman(world: World, podmans: list[Podman]) -> None:
    """run, -p, --ip, --mac-address, restart, stop, rm, on two hosts; the container's name; nothing is left."""
    one, two = podmans
    web = one.start("web", NETWORK, "-p", "18400:80", command=("httpd", "-f", "-p", "80", "-h", "/etc"))
    assert f"inet {web}/24" in one("exec", "web", "ip", "addr", "show", "eth0")
    assert "default via 10.62.0.1 dev eth0" in one("exec", "web", "ip", "route")
    assert "nameserver 192.0.2.53" in one("exec", "web", "cat", "/etc/resolv.conf")
    shown = run.api(world.plan.hosts[1], "GET", f"/endpoints/{NETWORK}/web")["endpoint"]
    assert (shown["hostname"], shown["state"], shown["labels"]["by"]) == ("h1", "up", "podman")
    assert shown["labels"]["cni.container"] == one("inspect", "web", "--format", "{{.Id}}")
    assert two.start("fixed", NETWORK, "--ip", "10.62.0.99", "--mac-address", "02:00:00:00:62:99") == "10.62.0.99"
    assert "link/ether 02:00:00:00:62:99" in two("exec", "fixed", "ip", "link", "show", "eth0")
    two("exec", "fixed", "ping", "-c", "1", "-W", "5", web)
    fetch = ("curl", "-s", "-m", "2", f"http://{world.plan.hosts[0].vtep}:18400/hostname")
    eventually(lambda: world.inside("h2", *fetch).returncode == 0)
    one("restart", "-t", "0", "web")
    eventually(lambda: world.inside("h2", *fetch).returncode == 0)
    refused = one.attempt("run", "--rm", "--name", "second", "--network", NETWORK, "-p", "18400:81", IMAGE, "true")
    assert "tcp port 18400 of host h1 is published by endpoint web" in refused.stderr
    one("kill", "web")
    eventually(lambda: len(attached(world, NETWORK)) == 1)
    assert world.inside("h2", *fetch).returncode != 0
    one("start", "web")
    two(
        "exec",
        "fixed",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        one("inspect", "web", "--format", "{{.NetworkSettings.Networks.runtimes.IPAddress}}"),
    )
    for podman in podmans:
        podman("rm", "-f", "-t", "0", "--all")
    assert attached(world, NETWORK) == []
    settled(world)


def test_podman_without_an_agent(world: World, podmans: list[Podman]) -> None:
    """A clear error instead of a container, and nothing left; a container of before goes when the agent is back."""
    one, two = podmans
    one.start("before", NETWORK)
    run.stop(world.plan, "h1", "agent")
    try:
        refused = one.attempt("run", "--rm", "--network", NETWORK, IMAGE, "true")
        assert "the agent of this host does not listen on" in refused.stderr
        assert refused.returncode != 0
        two.start("elsewhere", NETWORK)
        one.attempt("rm", "-f", "-t", "0", "before")
    finally:
        run.start(world.plan, "h1", "agent")
    eventually(lambda: len(attached(world, NETWORK)) == 1)
    for podman in podmans:
        podman("rm", "-f", "-t", "0", "--all")
    run.wait_until_up(world.plan)
    settled(world)


@pytest.fixture
def containerd(world: World, podmans: list[Podman], tmp_path: Path) -> Iterator[Path]:
    """containerd on h1 with the image; its directory."""
    if not shutil.which("containerd") or not shutil.which("ctr"):
        pytest.skip("needs containerd")
    directory = tmp_path
    for name in ("bin", "net.d"):
        (directory / name).mkdir()
    shutil.copy(tools.cni.plugin.__file__, directory / "bin/warren")
    (directory / "bin/warren").chmod(0o755)
    (directory / "net.d/10.conflist").write_text((podmans[0].directory / f"net.d/{NETWORK}.conflist").read_text())
    (directory / "ctr").write_text(CTR.format(here=directory))
    (directory / "containerd.toml").write_text(CONTAINERD.format(here=directory))
    host = world.plan.hosts[0]
    with (directory / "log").open("w") as log:
        daemon = subprocess.Popen(
            run.in_netns(host.netns, "containerd", "-c", f"{directory}/containerd.toml"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: ctr(world, directory, "version").returncode == 0)
        podmans[0]("save", "--format", "oci-archive", "-o", f"{directory}/image.tar", IMAGE)
        imported = ctr(world, directory, "image", "import", "--snapshotter", "native", f"{directory}/image.tar")
        assert imported.returncode == 0, imported.stderr
        yield directory
    finally:
        daemon.terminate()
        daemon.wait(timeout=LIMIT_S)


def ctr(world: World, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """containerd's client, for which the plugin and the network are where it looks for them: it knows no other places."""
    command = run.in_netns(world.plan.hosts[0].netns, "unshare", "-m", "sh", str(directory / "ctr"), *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_containerd(world: World, podmans: list[Podman], containerd: Path) -> None:
    """`ctr run --cni`: the container reaches one of podman's on the other host. One that runs in the background goes without a word."""
    target = podmans[1].start("target", NETWORK)
    run_it = ("run", "--snapshotter", "native", "--cni")
    done = ctr(world, containerd, *run_it, "--rm", f"localhost/{IMAGE}:latest", "c1", "ping", "-c", "1", "-W", "5", target)
    assert " 0% packet loss" in done.stdout, done.stderr
    assert attached(world, NETWORK) == [podmans[1]("inspect", "target", "--format", "{{.Id}}")]
    done = ctr(world, containerd, *run_it, "-d", f"localhost/{IMAGE}:latest", "c2", "sleep", "3600")
    assert done.returncode == 0, done.stderr
    assert "default-c2" in attached(world, NETWORK)
    for words in (("task", "kill", "-s", "9", "c2"), ("task", "delete", "c2"), ("container", "delete", "c2")):
        eventually(lambda words=words: ctr(world, containerd, *words).returncode == 0)
    eventually(lambda: "default-c2" not in attached(world, NETWORK))
    podmans[1]("rm", "-f", "-t", "0", "--all")
    settled(world)
