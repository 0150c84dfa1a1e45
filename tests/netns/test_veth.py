"""veth pairs between a host (the namespace of a private Open vSwitch) and containers (namespaces), with real packets."""

from __future__ import annotations

import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from typing import Any

import pytest

from agent.linux import names, netns, veth
from agent.linux.interface import Desired, differences
from agent.linux.reading import read
from ovsdb.client import Ovsdb
from specs.model.derived import veth_name
from tests.ovs.conftest import Switch
from tests.waiting import LIMIT_S, eventually
from warren.errors import Conflict, Invalid, Unavailable


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


@pytest.fixture
def container() -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        name = f"wtc{uuid.uuid4().hex[:8]}"
        ip("netns", "add", name)
        made.append(name)
        return name

    yield make
    for name in made:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Cables:
    """Plugs as an agent on the private host would."""

    def __init__(self, host: str) -> None:
        self.host = host

    def on_host(self, work: Callable[[], Any]) -> Any:
        return netns.inside(self.host, work)

    def plug(self, endpoint: str, container: str | None, number: int, **more: Any) -> str:
        desired = self.desired(endpoint, container, number, **more)
        return self.on_host(lambda: veth.Plug(desired).finish())

    def differences(self, endpoint: str, container: str, number: int, **more: Any) -> tuple[str, ...]:
        desired = self.desired(endpoint, container, number, **more)
        return self.on_host(lambda: differences(desired, read(desired)))

    @staticmethod
    def desired(endpoint: str, container: str | None, number: int, **more: Any) -> Desired:
        addresses = more.pop("addresses", [f"10.0.0.{number}/24", f"fd00::{number:x}/64"])
        fields: dict[str, Any] = {
            "veth": veth_name(endpoint),
            "netns": container,
            "mac": f"02:57:0a:00:00:{number:02x}",
            "addresses": tuple(ip_interface(address) for address in addresses),
            "mtu": 1446,
            "offload_off": True,
        }
        return Desired(**{**fields, **more})


@pytest.fixture
def cables(switch: Switch) -> Cables:
    return Cables(switch.netns)


def ping(container: str, address: str, count: int = 1) -> None:
    command = ["ip", "netns", "exec", container, "ping", "-n", "-c", str(count), "-i", "0.1", "-W", "2", address]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_ends_may_be_on_the_host_also_when_its_namespace_has_an_id(cables: Cables) -> None:
    """A tool of the host, or an engine, may give the namespace an id at any time."""
    fields = {"interface": "warren-admin", "addresses": ["10.44.44.1/24"]}
    assert cables.plug("own", cables.host, 1, **fields) == "warren-admin"
    assert cables.differences("own", cables.host, 1, **fields) == ()
    index = ip("-n", cables.host, "-o", "link", "show", "warren-admin").split(":")[0]
    ip("-n", cables.host, "netns", "set", cables.host, "auto")
    assert cables.differences("own", cables.host, 1, **fields) == ()
    cables.plug("own", cables.host, 1, **fields)
    assert ip("-n", cables.host, "-o", "link", "show", "warren-admin").split(":")[0] == index, "it was not made anew"
    cables.on_host(lambda: veth.unplug(veth_name("own")))


def test_containers_reach_each_other(switch: Switch, cables: Cables, container: Callable[[], str]) -> None:
    switch.vsctl("add-br", "br-warren", "--", "set", "bridge", "br-warren", "datapath_type=netdev")
    client = Ovsdb(switch.remote)
    assert client.connect(10)
    try:
        one, two = container(), container()
        ends = [("a", one, 1), ("b", two, 2), ("c", two, 3), ("d", two, 4)]
        names = []
        for endpoint, where, number in ends:
            more = {"addresses": [f"10.{number}.0.{number}/24"]} if endpoint in "cd" else {}
            names.append(cables.plug(endpoint, where, number, **more))
            assert client.add_port("br-warren", veth_name(endpoint), number, endpoint) == number
        assert names == ["eth0", "eth0", "eth1", "eth2"], "several endpoints in one namespace"
        ping(one, "10.0.0.2")
        ping(one, "fd00::2")
        ping(two, "fd00::1")
        ip("-n", one, "addr", "add", "10.3.0.1/24", "dev", "eth0")
        ping(one, "10.3.0.3")
        big = ["ip", "netns", "exec", one, "ping", "-n", "-c1", "-W2", "-M", "do", "-s", str(1446 - 28), "10.0.0.2"]
        subprocess.run(big, check=True, capture_output=True, timeout=LIMIT_S)
    finally:
        client.close()


def test_a_veth_recreated_under_its_port_works(switch: Switch, cables: Cables, container: Callable[[], str]) -> None:
    switch.vsctl("add-br", "br-warren", "--", "set", "bridge", "br-warren", "datapath_type=netdev")
    client = Ovsdb(switch.remote)
    assert client.connect(10)

    def put(endpoint: str, where: str, number: int) -> int:
        cables.plug(endpoint, where, number)
        return cables.on_host(lambda: client.add_port("br-warren", veth_name(endpoint), number, endpoint))

    try:
        one, two = container(), container()
        assert (put("a", one, 1), put("b", two, 2)) == (1, 2)
        ping(one, "10.0.0.2")
        for _ in range(3):
            cables.on_host(lambda: veth.unplug(veth_name("b")))
            assert put("b", two, 2) == 2
            ping(one, "10.0.0.2", count=5)  # the first may meet a flow of the old port
        sequence = switch.vsctl("get", "open_vswitch", ".", "next_cfg")
        assert put("b", two, 2) == 2
        assert switch.vsctl("get", "open_vswitch", ".", "next_cfg") == sequence, "a working port was made anew"
    finally:
        client.close()


def test_a_created_veth_is_complete(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    before = os.readlink("/proc/thread-self/ns/net")
    assert cables.plug("a", one, 1) == "eth0"
    assert cables.differences("a", one, 1) == ()
    assert os.readlink("/proc/thread-self/ns/net") == before
    far = ip("-n", one, "-d", "link", "show", "eth0")
    assert "02:57:0a:00:00:01" in far
    assert "mtu 1446" in far
    assert ",UP" in far
    assert "tentative" not in ip("-n", one, "-6", "addr", "show", "eth0", "scope", "global")
    near = ip("-n", cables.host, "-d", "addr", "show", veth_name("a"))
    assert "mtu 1446" in near
    assert "inet6" not in near
    assert ",UP" in near
    assert not netns.inside(one, lambda: netns.tx_checksum("eth0"))


def test_the_port_is_made_from_the_host_while_addresses_are_set(cables: Cables, container: Callable[[], str]) -> None:
    """Both ends are up by then; and the caller's thread has not entered the container's namespace."""
    one, seen = container(), []

    def meanwhile() -> None:
        near, far = ip("-d", "link", "show", veth_name("a")), ip("-n", one, "link", "show", "eth0")
        seen.append((",UP" in near, ",UP" in far, os.readlink("/proc/thread-self/ns/net")))

    def plug() -> str:
        veth.Plug(cables.desired("a", one, 1)).finish(meanwhile)
        return os.readlink("/proc/thread-self/ns/net")

    host = cables.on_host(plug)
    assert seen == [(True, True, host)]
    assert cables.differences("a", one, 1) == ()


def test_without_a_pair_no_port_is_made_and_a_port_that_fails_is_told(cables: Cables, container: Callable[[], str]) -> None:
    one, calls = container(), []
    ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth9")
    with pytest.raises(Conflict):
        cables.on_host(lambda: veth.Plug(cables.desired("a", one, 1, interface="eth0")).finish(lambda: calls.append("called")))
    assert calls == []

    def fails() -> None:
        raise Unavailable("ovs-vswitchd", "it said no")

    with pytest.raises(Unavailable, match="it said no"):
        cables.on_host(lambda: veth.Plug(cables.desired("a", one, 1, interface="eth1")).finish(fails))
    assert cables.differences("a", one, 1, interface="eth1") == (), "the pair is complete all the same"


def test_a_network_namespace_may_be_given_by_a_process_path(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    sleeper = subprocess.Popen(["ip", "netns", "exec", one, "sleep", "60"])
    try:
        path = f"/proc/{sleeper.pid}/ns/net"
        eventually(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"))
        assert cables.plug("a", path, 1, interface="net7") == "net7"
        assert "net7" in ip("-n", one, "link")
    finally:
        sleeper.kill()
        sleeper.wait()


def test_attaching_again_changes_nothing(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    cables.plug("a", one, 1)
    before = ip("-n", one, "-o", "link", "show", "eth0").split()[0]
    assert cables.plug("a", one, 1) == "eth0"
    assert ip("-n", one, "-o", "link", "show", "eth0").split()[0] == before


def test_a_half_plugged_endpoint_is_completed(cables: Cables, container: Callable[[], str]) -> None:
    one, name = container(), veth_name("a")
    ip(
        "-n",
        cables.host,
        "link",
        "add",
        name,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "address",
        "02:57:0a:00:00:01",
        "netns",
        one,
    )
    assert {
        f"interface {name} is down",
        "interface eth0 in the container is down",
        f"interface {name} has MTU 1500 instead of 1446",
        "address 10.0.0.1/24 is missing on eth0",
        "checksum offload of eth0 is on",
    } <= set(cables.differences("a", one, 1))
    index = ip("-n", one, "-o", "link", "show", "eth0").split()[0]
    assert cables.plug("a", one, 1) == "eth0"
    assert cables.differences("a", one, 1) == ()
    assert ip("-n", one, "-o", "link", "show", "eth0").split()[0] == index, "completed, not made anew"


def test_a_veth_into_another_namespace_is_recreated(cables: Cables, container: Callable[[], str]) -> None:
    one, two = container(), container()
    cables.plug("a", one, 1)
    assert cables.differences("a", two, 1) == (f"the far end of {veth_name('a')} is not in {two}",)
    assert cables.plug("a", two, 1) == "eth0"
    assert "eth0" not in ip("-n", one, "link")
    assert cables.differences("a", two, 1) == ()


def test_a_deleted_namespace_removes_its_veth(cables: Cables, container: Callable[[], str]) -> None:
    one, two = container(), container()
    cables.plug("a", one, 1)
    ip("netns", "del", one)
    eventually(lambda: not cables.on_host(lambda: veth.exists(veth_name("a"))))
    assert cables.differences("a", two, 1) == (f"interface {veth_name('a')} does not exist",)


def test_a_far_end_that_an_engine_has_moved_is_completed_where_it_is(cables: Cables, container: Callable[[], str]) -> None:
    """The host's interface with the same index stays where it is, as it is."""
    netns_name = container()
    cables.plug("moved", netns_name, 9)
    index = int(ip("-n", netns_name, "-o", "link", "show", "eth0").split(":")[0])
    twin = (
        "netns",
        "exec",
        cables.host,
        "ip",
        "link",
        "add",
        "twin",
        "index",
        str(index),
        "type",
        "veth",
        "peer",
        "name",
        "twin-far",
    )
    if not [line for line in ip("-n", cables.host, "-o", "link").splitlines() if line.startswith(f"{index}:")]:
        ip(*twin)
    before = ip("-n", cables.host, "-o", "link", "show")
    ip("-n", netns_name, "link", "set", "eth0", "down", "mtu", "1500")
    desired = cables.desired("moved", None, 9)
    cables.on_host(lambda: veth.complete_moved(desired))
    shown = ip("-n", netns_name, "-o", "link", "show", "eth0")
    assert ("UP" in shown, f"mtu {desired.mtu}" in shown) == (True, True), shown
    names_before, names_after = (
        [line.split(":")[1] for line in text.splitlines()] for text in (before, ip("-n", cables.host, "-o", "link", "show"))
    )
    assert names_before == names_after


def test_unplug_is_idempotent_and_takes_both_ends(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    cables.plug("a", one, 1)
    cables.plug("b", one, 2)
    assert cables.on_host(names.veths) == sorted([veth_name("a"), veth_name("b")])
    cables.on_host(lambda: veth.unplug(veth_name("a")))
    cables.on_host(lambda: veth.unplug(veth_name("a")))
    assert cables.on_host(names.veths) == [veth_name("b")]
    assert "eth0" not in ip("-n", one, "link")


def test_foreign_interfaces_with_warrens_prefix_are_not_warrens(cables: Cables) -> None:
    ip("-n", cables.host, "link", "add", "wvx", "type", "veth", "peer", "name", "wvlan0")
    assert cables.on_host(names.veths) == []


@pytest.mark.parametrize(
    "wrong", ["/nonexistent/net", "/etc/hostname", "/proc/self/ns/mnt", "no-such-name", "/proc/999999999/ns/net"]
)
def test_an_unusable_namespace_is_an_error_that_names_it(cables: Cables, wrong: str) -> None:
    with pytest.raises(Invalid) as error:
        cables.plug("a", wrong, 1)
    assert error.value.path == "netns"
    assert error.value.value == wrong
    assert "/run/netns/" in str(error.value)
    assert cables.on_host(names.veths) == []


def test_an_interface_name_in_use_is_an_error_that_names_it(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    cables.plug("a", one, 1, interface="eth0")
    with pytest.raises(Conflict, match="eth0"):
        cables.plug("b", one, 2, interface="eth0")
    assert cables.on_host(names.veths) == [veth_name("a")]
    assert cables.plug("b", one, 2) == "eth1"


def test_an_address_that_the_kernel_refuses_is_an_error_that_names_it(cables: Cables, container: Callable[[], str]) -> None:
    with pytest.raises(Unavailable, match="kernel"):
        cables.plug("a", container(), 1, mtu=65_536)


def test_many_at_once_into_one_namespace(cables: Cables, container: Callable[[], str]) -> None:
    one, names = container(), []

    def work(number: int) -> None:
        names.append(cables.plug(f"e{number}", one, number, addresses=[f"10.{number}.0.1/24"]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == sorted(f"eth{n}" for n in range(12))


def test_reserved_interface_names_do_not_collide(container: Callable[[], str]) -> None:
    one = container()
    with names.reserve(one, None) as first, names.reserve(one, None) as second:
        assert (first, second) == ("eth0", "eth1")
        with pytest.raises(Conflict), names.reserve(one, "eth1"):
            pass
    with names.reserve(one, "eth1") as again:
        assert again == "eth1"
    with pytest.raises(Invalid), names.reserve(None, None):
        pass


def test_ipv6_is_allowed_where_the_engine_forbade_it(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    setting = "net.ipv6.conf.default.disable_ipv6=1"
    subprocess.run(["ip", "netns", "exec", one, "sysctl", "-qw", setting], check=True, capture_output=True)
    cables.plug("a", one, 1)
    assert "fd00::1/64" in ip("-n", one, "-6", "addr", "show", "eth0")


def test_ipv6_is_enabled_for_endpoints_that_use_dhcpv6(cables: Cables, container: Callable[[], str]) -> None:
    netns = container()
    setting = "net.ipv6.conf.default.disable_ipv6=1"
    subprocess.run(["ip", "netns", "exec", netns, "sysctl", "-qw", setting], check=True)
    cables.plug("asks", netns, 2, addresses=[], enable_ipv6=True)
    shown = ip("-n", netns, "-o", "addr", "show", "dev", "eth0")
    assert "inet6 fe80::57:aff:fe00:2/64" in shown
    assert "global" not in shown


def test_routes_and_the_first_default_route_stay(cables: Cables, container: Callable[[], str]) -> None:
    one = container()
    routes = [("192.0.2.0/24", "10.0.0.9"), ("2001:db8::/32", None)]
    for _ in range(2):
        cables.plug("a", one, 1, gateways=("10.0.0.254", "fd00::fe"), routes=tuple(routes))
    cables.plug("b", one, 2, addresses=["10.9.0.2/24"], gateways=("10.9.0.1",))
    four, six = ip("-n", one, "route"), ip("-n", one, "-6", "route")
    assert "default via 10.0.0.254 dev eth0" in four
    assert "10.9.0.1" not in four
    assert "192.0.2.0/24 via 10.0.0.9" in four
    assert "default via fd00::fe dev eth0" in six
    assert "2001:db8::/32 dev eth0" in six


def test_an_endpoint_without_a_namespace_stays_on_the_host(cables: Cables) -> None:
    name = names.peer_name("a")
    assert cables.plug("a", None, 1, interface=name, addresses=[]) == name
    assert cables.on_host(names.veths) == [veth_name("a")]
    assert name in ip("-n", cables.host, "link")
