"""The resolver's network namespace: a veth pair whose near end is a port of the bridge, and sockets inside the namespace.

The namespace has no name; it and the pair end with the process that made them. So nothing is left behind, no filter of the host drops
its packets, and its addresses collide with none of the host's (intent/names.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns, nft
from agent.linux.kernel import reason
from agent.linux.veth import NO_ADDRESS_OF_ITS_OWN
from intent.gateway import HOST_MAC
from intent.names import PREFIX4, PREFIX6
from pipeline.tables import RESOLVER_PORT
from warren.errors import Unavailable

INSIDE = "eth0"
PATH_MTU = 1280  # bytes of an answer's packets: they fit any network
RATE, BURST = 200, 400  # queries a second of one endpoint; more are dropped before the resolver reads them
_IFF_UP, _IFF_NOARP = 0x01, 0x80
_LOCAL, _TABLE_LOCAL, _SCOPE_HOST = 2, 255, 254
_SETTINGS = {"ipv4/conf/{}/route_localnet": "1", "ipv4/conf/{}/rp_filter": "0", "ipv6/conf/{}/disable_ipv6": "0"}
# One set for each version of IP. An element stands for an endpoint: the address of its network (the query's destination) and its own address
RULES = """table inet resolver {{
    set askers4 {{ type ipv4_addr . ipv4_addr; flags dynamic; timeout 10s; size 65535; }}
    set askers6 {{ type ipv6_addr . ipv6_addr; flags dynamic; timeout 10s; size 65535; }}
    chain input {{
        type filter hook prerouting priority raw; policy accept;
        meta l4proto tcp tcp flags & (syn | ack) != syn accept
        iifname {inside} update @askers4 {{ ip saddr . ip daddr limit rate over {rate}/second burst {burst} packets }} counter drop
        iifname {inside} update @askers6 {{ ip6 saddr . ip6 daddr limit rate over {rate}/second burst {burst} packets }} counter drop
    }}
}}
"""

T = TypeVar("T")


def create(work: Callable[[], T]) -> T:
    """Make the namespace and run `work` in it. The result must keep the namespace alive, as sockets do. Raises `Unavailable`."""
    host = os.open(f"/proc/{os.getpid()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def inside() -> T:
        netns.unshare()
        _configure(host)
        return work()

    try:
        return netns.in_thread(inside)
    except (OSError, NetlinkError) as error:
        raise Unavailable("the kernel", f"cannot make the namespace of the resolver: {reason(error)}") from error
    finally:
        os.close(host)


def exists() -> bool:
    """Whether the near end of a pair exists."""
    with IPRoute() as host:
        return bool(host.link_lookup(ifname=RESOLVER_PORT))


def _configure(host: int) -> None:
    """Set up the namespace that this thread is in; `host` is the host's."""
    path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
    with netns.opened(path) as opened:
        near_end = netns.in_thread(lambda: _make_pair(host, opened))
    assert near_end
    with IPRoute() as inside:
        index = inside.link_lookup(ifname=INSIDE)[0]
        _set(INSIDE)
        inside.link("set", index=inside.link_lookup(ifname="lo")[0], state="up")
        inside.link("set", index=index, flags=_IFF_UP | _IFF_NOARP, change=_IFF_UP | _IFF_NOARP)
        netns.tx_checksum(INSIDE, on=False)
        _route(inside, index)
    nft.run(commands=RULES.format(inside=INSIDE, rate=RATE, burst=BURST))


def _make_pair(host: int, inside: int) -> bool:
    """Make the pair, from the host's namespace, in place of an earlier resolver's."""
    netns.enter(host)
    with IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=RESOLVER_PORT):
            netlink.link("del", index=index)
        peer = {"ifname": INSIDE, "net_ns_fd": inside, "address": HOST_MAC}
        netlink.link("add", ifname=RESOLVER_PORT, kind="veth", peer=peer)
        index = netlink.link_lookup(ifname=RESOLVER_PORT)[0]
        netlink.link("set", index=index, IFLA_AF_SPEC=NO_ADDRESS_OF_ITS_OWN)
        netlink.link("set", index=index, state="up")
    return True


def _set(interface: str) -> None:
    for path, value in _SETTINGS.items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/{path.format(interface)}", "w") as setting:
            setting.write(value)


def _route(netlink: Any, index: int) -> None:
    """Make every address that stands for a network local, and route all other addresses by the interface."""
    loopback = netlink.link_lookup(ifname="lo")[0]
    with contextlib.suppress(NetlinkError):  # it would hide the network with the highest number
        netlink.route("del", dst=f"{PREFIX4.broadcast_address}/32", type="broadcast", table=_TABLE_LOCAL, oif=loopback)
    netlink.route("add", dst="0.0.0.0/0", oif=index, scope="link", metrics={"mtu": PATH_MTU})
    try:
        netlink.route("add", dst=str(PREFIX6), type="local", table=_TABLE_LOCAL, oif=loopback)
        netlink.route("add", dst="::/0", oif=index, metrics={"mtu": PATH_MTU})
    except NetlinkError as error:
        if error.code not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES):  # the kernel has no IPv6
            raise
