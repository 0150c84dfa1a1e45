"""Three sites of one host, the last one behind a translating router: networks of one profile by IPsec, those of `default` by WireGuard, at once."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.linux.charon import Charon, CharonState
from tests.e2e.conftest import World, clean
from tests.e2e.sites import WAIT_S, laboratory
from tests.e2e.test_sites import captured
from tests.waiting import eventually, patiently
from tools.lab import run
from tools.lab.plan import LabPlan

FEW = 2  # lost packets that a busy machine is forgiven
ESP = "udp port 4500 and udp[8:4] != 0"  # IKE on that port begins with four zeros (RFC 3948)
CLEAR = "( udp or tcp or icmp ) and not port 4500 and not port 51820 and not ( icmp and icmp[0] = 3 )"  # 3: nobody listens


@pytest.fixture(scope="module")
def secured() -> Iterator[World]:
    """A laboratory with containers c1 to c3 on a network of a profile with IPsec, and w1 and w2 on one of `default`."""
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("i" + uuid.uuid4().hex[:4], 3, sites=3)
    with laboratory(plan) as world:
        run.api(plan.hosts[0], "POST", "/profiles", name="secure", hosts="all", cipher="ipsec")
        run.api(plan.hosts[0], "POST", "/networks", name="amber", ip_range="10.0.0.0/24")
        run.api(plan.hosts[0], "POST", "/networks", name="indigo", ip_range="10.1.0.0/24", profile="secure")
        for name, network in (("c1", "indigo"), ("c2", "indigo"), ("c3", "indigo"), ("w1", "amber"), ("w2", "amber")):
            endpoint = run.container(plan, name, f"h{name[1:]}", network)
            world.address[name] = endpoint["target_veth_ip"].split("/")[0]
        yield world
    eventually(lambda: not [line for line in commands() if f"/{plan.name}/" in line])


def commands() -> list[str]:
    """The command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def tunnel(world: World, host: str, peer: str, cipher: str = "ipsec") -> dict[str, Any]:
    """What a host's agent says of its tunnel to a peer."""
    shown = run.api(world.plan.host(host), "GET", f"/hosts/{host}/encryption")["pairs"]  # type: ignore[arg-type]
    pair: dict[str, Any] = next((pair for pair in shown if (pair["peer"], pair["cipher"]) == (peer, cipher)), {"up": False})
    return pair


def all_up(world: World) -> bool:
    hosts = [host.name for host in world.plan.hosts]
    return all(tunnel(world, a, b, cipher)["up"] for a in hosts for b in hosts if a != b for cipher in ("ipsec", "wireguard"))


def charon(world: World, host: str) -> Charon:
    return Charon(world.plan.host(host).directory / f"ipsec-{host}")  # type: ignore[union-attr]


def state(world: World, host: str) -> CharonState:
    reading = charon(world, host).read()
    assert reading is not None, f"charon of {host} does not answer"
    return reading


def named(names: frozenset[str], peer: str) -> str:
    (name,) = (name for name in names if name.startswith(f"{peer}-"))
    return name


def log_of(world: World, host: str) -> str:
    return (world.plan.host(host).directory / "agent.log").read_text()  # type: ignore[union-attr]


@contextmanager
def pinging(world: World, source: str, target: str, losses: list[int]) -> Iterator[None]:
    """Ping meanwhile, ten times a second; append how many were not answered though a later one was."""
    ping = world.background(source, "ping", "-i", "0.1", world.address[target])
    try:
        yield
    finally:
        ping.send_signal(signal.SIGINT)
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", ping.communicate(timeout=WAIT_S)[0])}
        losses.append(max(answered, default=0) - len(answered))


def test_each_profile_has_its_cipher_and_a_new_secret_loses_no_packet(secured: World) -> None:
    eventually(lambda: all_up(secured), WAIT_S)
    for source, target in (("c1", "c2"), ("c2", "c3"), ("w1", "w2")):
        assert secured.reaches(source, secured.address[target]), f"{source} to {target}"
    before, rotated_at, losses = state(secured, "h1"), time.monotonic(), list[int]()
    with captured(secured, "inet", CLEAR) as clear, pinging(secured, "c1", "c2", losses):
        assert run.api(secured.plan.hosts[0], "POST", "/encryption/rotate", pair=["h1", "h2"])["rotated"] == [["h1", "h2"]]
        for source, target, filters, other in (("c1", "c3", ESP, "port 51820"), ("w1", "w2", "port 51820", ESP)):
            size = "udp and greater 750 and less 1000"  # the controllers probe with other sizes
            with (
                captured(secured, "inet", f"{size} and {filters}") as used,
                captured(secured, "inet", f"{size} and {other}") as unused,
            ):
                secured.inside(source, "ping", "-c", "5", "-i", "0.1", "-s", "700", secured.address[target])
            assert used, f"packets from {source} to {target} were seen outside"
            assert unused == [], f"packets from {source} to {target} went by the other cipher"
        server = secured.background("c3", "iperf3", "-s")
        assert patiently(lambda: secured.inside("c1", "iperf3", "-c", secured.address["c3"], "-n", "1M").returncode == 0)
        server.terminate()
        server.communicate()
        for name, mtu, far in (("c1", 1346, "c3"), ("w1", 1366, "w2")):
            assert f" mtu {mtu} " in secured.inside(name, "ip", "link", "show", "eth0").stdout
            for size, answered in ((mtu, True), (mtu + 1, False)):
                words = ("ping", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(size - 28), secured.address[far])
                assert (secured.inside(name, *words).returncode == 0) is answered, size
        for host, peer in (("h1", "h2"), ("h2", "h1")):
            eventually(lambda host=host, peer=peer: _agreed_since(secured, host, peer, rotated_at), WAIT_S)  # type: ignore[misc]
    assert clear == []
    assert losses[0] <= FEW
    after = state(secured, "h1")
    assert named(after.secrets, "h2") != named(before.secrets, "h2")
    assert named(after.secrets, "h3") == named(before.secrets, "h3")
    assert after.connections == before.connections


def _agreed_since(world: World, host: str, peer: str, since: float) -> bool:
    """Whether the hosts have authenticated each other anew since then."""
    reading = charon(world, host).read()
    ages = [sa.age_s for sa in reading.sas if sa.connection.startswith(f"{peer}-")] if reading is not None else []
    return bool(ages) and all(age is not None and age < time.monotonic() - since - 1 for age in ages)


def _kill(world: World) -> None:
    os.kill(int((world.plan.host("h1").directory / "ipsec-h1.pid").read_text()), signal.SIGKILL)  # type: ignore[union-attr]


def _flush(world: World) -> None:
    charon(world, "h2").change("terminate", {"ike": named(state(world, "h2").connections, "h1"), "force": "yes", "timeout": "-1"})


def _wrong_secret(world: World) -> None:
    reading = state(world, "h1")
    wrong = {"id": "h2-wrong", "type": "IKE", "data": "wrong", "owners": ["fqdn:h1", "fqdn:h2"]}
    charon(world, "h1").change("load-shared", wrong)
    charon(world, "h1").change("unload-shared", {"id": named(reading.secrets, "h2")})
    charon(world, "h1").change("terminate", {"ike": named(reading.connections, "h2"), "force": "yes", "timeout": "-1"})


@pytest.mark.parametrize(("harm", "alone"), [(_kill, False), (_flush, True), (_wrong_secret, True)])
def test_what_is_damaged_heals_and_nothing_leaves_in_clear_text(
    secured: World, harm: Callable[[World], None], alone: bool
) -> None:
    """`alone`: the damage is one pair's; those of the others, and of the other cipher, stay up in any case."""
    eventually(lambda: all_up(secured), WAIT_S)
    begin, harmed_at, losses = len(log_of(secured, "h1")), time.monotonic(), list[int]()

    def lost(mark: str) -> bool:
        return f"tunnel={mark} up=False" in log_of(secured, "h1")[begin:]

    with captured(secured, "inet", CLEAR) as clear, pinging(secured, "c1", "c2", losses), pinging(secured, "w1", "w2", losses):
        harm(secured)
        # on a slow machine the other host may have begun anew before the agent of this one has looked
        eventually(lambda: lost("h2/ipsec") or _agreed_since(secured, "h1", "h2", harmed_at), WAIT_S)
        eventually(lambda: all_up(secured), WAIT_S)
        assert secured.reaches("c1", secured.address["c2"])
    assert clear == []
    assert losses[0] <= FEW, "the tunnels of the other cipher were not touched"
    assert lost("h3/ipsec") is not alone
    assert not lost("h2")
    assert not lost("h3")


def test_the_flows_to_a_host_go_with_its_ipsec_tunnel(secured: World) -> None:
    """The agent of h2 is away, and its charon ends: h1 sends it nothing by IPsec any more, and says why."""
    eventually(lambda: all_up(secured), WAIT_S)
    run.stop(secured.plan, "h2", "agent")
    try:
        os.kill(int((secured.plan.host("h2").directory / "ipsec-h2.pid").read_text()), signal.SIGTERM)  # type: ignore[union-attr]
        with captured(secured, "inet", CLEAR) as clear:
            eventually(lambda: not tunnel(secured, "h1", "h2")["up"], WAIT_S)
            line = "encrypted tunnel to host h2: no IPsec SA with"
            eventually(lambda: line in str(run.api(secured.plan.hosts[0], "GET", "/hosts/h1")["host"]["problems"]), WAIT_S)
            assert secured.reaches("c1", secured.address["c3"])
            assert not secured.pings("c1", secured.address["c2"])
        assert clear == []
    finally:
        run.start(secured.plan, "h2", "agent")
    eventually(lambda: all_up(secured), WAIT_S)
    assert secured.reaches("c1", secured.address["c2"])


def test_charon_ends_with_the_last_profile_that_needs_it(secured: World) -> None:
    first = secured.plan.hosts[0]
    eventually(lambda: all_up(secured), WAIT_S)
    run.api(first, "POST", "/profiles", name="secure", cipher="wireguard", hosts="all")
    try:
        eventually(lambda: [host.name for host in secured.plan.hosts if charon(secured, host.name).settings()] == [], WAIT_S)
        assert secured.reaches("c1", secured.address["c2"])
        eventually(lambda: clean(first), WAIT_S)
        assert " alias warren-ipsec" not in secured.inside("h1", "ip", "-d", "link").stdout
    finally:
        run.api(first, "POST", "/profiles", name="secure", cipher="ipsec", hosts="all")
    eventually(lambda: all_up(secured), WAIT_S)
    assert secured.reaches("c1", secured.address["c2"])
