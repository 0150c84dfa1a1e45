"""The veth pair of an endpoint: the host's end is a port of the bridge, the far end is the container's interface.

One rtnetlink(7) request creates the pair, with the far end inside the namespace and its name, MAC and MTU set; after a crash
the pair exists completely or not at all. Everything after that request is idempotent, so `plug` completes and repairs what
exists. Warren recognises its own veths by their names.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import names
from agent.linux import netns as namespaces
from agent.linux.far_namespace import at_far_end
from agent.linux.interface import ROUTE_PROTOCOL, Desired, IPInterface, Link, mtu_fits, stale_routes, waits_for_its_engine
from agent.linux.kernel import index_of, reason
from agent.linux.reading import link_of, pair_of, read_inside, to_link
from specs.model.derived import veth_mac
from warren.errors import Conflict, Unavailable

log = logging.getLogger("warren.plug")


def addr_gen_mode(mode: int) -> dict[str, Any]:
    """Return the attribute IFLA_AF_SPEC that sets how the kernel gives an interface its link-local address."""
    return {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", mode]]}]]}


NO_ADDRESS_OF_ITS_OWN = addr_gen_mode(1)
_IFA_F_NODAD = 0x02
_TRIES = 16


class Plug:
    """Makes, completes or recreates a pair, in a thread of its own that starts at once."""

    def __init__(self, desired: Desired) -> None:
        self.desired = desired
        self._both_up = namespaces.Milestone()
        self._work = namespaces.Work(self._run)

    def _run(self) -> str:
        try:
            with namespaces.opened_or_none(self.desired.netns) as fd:
                return _plug(self.desired, fd, self._both_up.reach)
        finally:
            self._both_up.end()

    def finish(self, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Wait for the end; return the name of the far end. Once both ends are up, call `meanwhile` in the caller's thread, while addresses
        and routes are set.

        Raises `Invalid` for an unusable namespace, `Conflict` if the name is taken there, `Unavailable` if the kernel refuses.
        """
        try:
            try:
                if self._both_up.wait():
                    meanwhile()
            finally:
                self._work.join()
            return self._work.result()
        except (NetlinkError, OSError) as error:
            veth, where = self.desired.veth, self.desired.netns or "the host"
            raise Unavailable("the kernel", f"cannot plug {veth} into {where}: {reason(error)}") from error


def complete_moved(desired: Desired) -> None:
    """Set link state and MTU of both ends of a pair whose far end an engine has moved, wherever that is. Raises `Unavailable`
    if the pair does not exist or the kernel refuses."""

    def work() -> None:
        with IPRoute() as host:
            near, far = pair_of(host, desired.veth, None)
            if near is None:
                raise Unavailable(f"interface {desired.veth}", "it does not exist; its engine must attach the container again")
            if far is not None and not _complete(desired, near, far):
                moved = near.peer_nsid is not None
                at_far_end(host, near, lambda: _complete_moved_link(desired, near, far, moved))
            _configure_host(host, near, desired.mtu)

    try:
        namespaces.in_thread(work)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot complete {desired.veth}: {reason(error)}") from error


def unplug(veth: str) -> None:
    """Remove both ends of the pair, if it exists. Raises `Unavailable` if the kernel refuses."""

    def work() -> None:
        with IPRoute() as host:
            _delete(host, veth)

    try:
        namespaces.in_thread(work)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot remove {veth}: {reason(error)}") from error


def change_mac(veth: str, netns: str, current: str, desired: str) -> bool:
    """Change the MAC of the far end if it is in the namespace, up, and has the MAC `current`; return whether it was. Raises
    `Invalid` if the namespace does not exist, `Unavailable` if the kernel refuses."""

    def work(fd: int) -> bool:
        with IPRoute() as host:
            far = pair_of(host, veth, fd)[1]
            if far is None or far.mac != current or not far.up:
                return False
            namespaces.enter(fd)
            with IPRoute() as inside:
                inside.link("set", index=far.index, address=desired)
            return True

    with namespaces.opened(netns) as fd:
        try:
            return namespaces.in_thread(lambda: work(fd))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot change the MAC of {veth} in {netns}: {reason(error)}") from error


def far_end_in(veth: str, netns: str) -> bool:
    """Return whether the far end is in the namespace. Raises `Invalid` if the namespace does not exist, `Unavailable` if the kernel
    refuses."""

    def work(fd: int) -> bool:
        with IPRoute() as host:
            near, far = pair_of(host, veth, fd)
            return near is not None and near.peer_nsid is not None and far is not None

    with namespaces.opened(netns) as fd:
        try:
            return namespaces.in_thread(lambda: work(fd))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot look for {veth} in {netns}: {reason(error)}") from error


def move(interface: str, netns: str, name: str) -> None:
    """Move an interface of the host into a namespace and rename it, in one request. Raises `Invalid` for an unusable
    namespace, `Conflict` if the name is taken there, `Unavailable` if the kernel refuses."""

    def work(fd: int) -> None:
        with IPRoute() as host:
            host.link("set", index=socket.if_nametoindex(interface), net_ns_fd=fd, ifname=name)

    with namespaces.opened(netns) as fd:
        try:
            namespaces.in_thread(lambda: work(fd))
        except (NetlinkError, OSError) as error:
            if getattr(error, "code", None) == errno.EEXIST:
                raise Conflict(f"interface {name!r} already exists in {netns}") from None
            raise Unavailable("the kernel", f"cannot move {interface} into {netns}: {reason(error)}") from error


def exists(veth: str) -> bool:
    """Return whether the host's end exists. (The kernel deletes it together with the namespace of the far end.)"""
    return index_of(veth) is not None


def up(interface: str) -> None:
    """Set an interface of the host up. Raises `Unavailable` if it does not exist or the kernel refuses."""
    with IPRoute() as host:
        index = index_of(interface)
        link = link_of(host, index) if index is not None else None
        if link is None:
            raise Unavailable(f"interface {interface}", "it does not exist (yet)")
        try:
            if not link.up:
                host.link("set", index=link.index, state="up")
        except NetlinkError as error:
            raise Unavailable("the kernel", f"cannot set {interface} up: {reason(error)}") from error


# ---- in a thread that enters the namespace ------------------------------------------------------------------------------


def _plug(desired: Desired, fd: int | None, both_up: Callable[[], None]) -> str:
    """Create or complete the pair. Opens the host's netlink socket first, because that socket stays in the host's namespace
    when the thread enters the container's."""
    with IPRoute() as host:
        near, far = pair_of(host, desired.veth, fd)
        if near is not None and (far is None or (fd is None and near.peer_nsid is not None)):
            log.info("plug.remade veth=%s netns=%s", desired.veth, desired.netns)
            host.link("del", index=near.index)
            near = far = None
        if fd is not None:
            namespaces.enter(fd)
        # without a namespace the host's socket serves for both ends: opening another takes milliseconds
        with IPRoute() if fd is not None else contextlib.nullcontext(host) as inside:
            if near is None or far is None:
                near, far = _create(host, inside, desired, fd)
            else:
                _delete_stale_routes(inside, desired, far)
            name = _configure_link(inside, desired, near, far)
            _configure_host(host, near, desired.mtu)
            both_up()
            _configure_addresses(inside, desired, name, far.index)
        return name


def _create(host: Any, inside: Any, desired: Desired, fd: int | None) -> tuple[Link, Link]:
    """Create the pair; return both ends. The near end shows the far end's index, so one request to the kernel is enough."""
    for _ in range(_TRIES):
        name = desired.interface or names.free(namespaces.interfaces())
        peer = {"ifname": name, "address": desired.mac, "mtu": desired.mtu}
        if fd is not None:
            peer["net_ns_fd"] = fd
        try:
            host.link("add", ifname=desired.veth, kind="veth", address=veth_mac(desired.veth), mtu=desired.mtu, peer=peer)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            if desired.interface is None or _delete_remains(inside, desired):
                continue  # another process has taken the name meanwhile, or it is free now
            raise Conflict(f"interface {desired.interface!r} already exists in {desired.netns or 'the host'}") from None
        near = _link(host, ifname=desired.veth)
        return near, Link(index=int(near.peer or 0), name=name, mac=desired.mac, mtu=desired.mtu, up=False)
    raise Conflict(f"no free interface name in {desired.netns or 'the host'}")


def _delete_remains(inside: Any, desired: Desired) -> bool:
    """Delete a far end whose other end was renamed or moved away, so that the pair can be made again; return whether there
    was one. Its name, its kind and the endpoint's MAC together identify a far end of Warren's."""
    row = next(iter(inside.link("get", ifname=desired.interface)), None)
    kind = (row.get_attr("IFLA_LINKINFO") or {}).get("kind") if row is not None else None
    if row is None or kind != "veth" or row.get_attr("IFLA_ADDRESS") != desired.mac:
        return False
    log.info("plug.remains_deleted veth=%s interface=%s", desired.veth, desired.interface)
    inside.link("del", index=row["index"])
    return True


def _configure_link(inside: Any, desired: Desired, near: Link, far: Link) -> str:
    name = far.name
    if desired.netns is not None and desired.interface not in (None, name):
        name = str(desired.interface)
        _rename(inside, far, name)
    if far.mac != desired.mac:
        inside.link("set", index=far.index, address=desired.mac)
    if desired.offload_off:
        namespaces.tx_checksum(name, False)
    _complete_link(inside, desired, near, far)
    return name


def _configure_addresses(inside: Any, desired: Desired, name: str, index: int) -> None:
    if desired.ipv6 and namespaces.ipv6_off(name):
        namespaces.allow_ipv6(name)
    for address in desired.addresses:
        _add_address(inside, index, address)
    for destination, gateway in desired.routes:
        _add_route(inside, index, destination, gateway)
    for gateway in desired.gateways:
        _add_route(inside, index, "default", gateway)


def _delete_stale_routes(inside: Any, desired: Desired, far: Link) -> None:
    for route in stale_routes(desired, read_inside(inside, desired, far)):
        family = socket.AF_INET6 if route.version == 6 else socket.AF_INET
        inside.route("del", dst="default", gateway=route.gateway, oif=far.index, family=family, proto=ROUTE_PROTOCOL)


def _rename(inside: Any, far: Link, name: str) -> None:
    """Give the far end its name again. Kernels before 6.2 rename no interface that is up; `_complete_link` sets it up again."""
    try:
        inside.link("set", index=far.index, ifname=name)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise Conflict(f"interface {name!r} already exists beside {far.name!r}, which is the endpoint's") from None
        if error.code != errno.EBUSY:
            raise
        inside.link("set", index=far.index, state="down")
        inside.link("set", index=far.index, ifname=name)
        inside.link("set", index=far.index, state="up")


def _complete(desired: Desired, near: Link, far: Link) -> bool:
    """Return whether MTU and state of the far end are as they should be."""
    return mtu_fits(desired, near.mtu, far.mtu) and far.up


def _complete_moved_link(desired: Desired, near: Link, far: Link, moved: bool) -> None:
    """As `_complete_link`, in the namespace that this thread is in. An interface that its engine has yet to rename stays down."""
    with IPRoute() as inside:
        _complete_link(inside, desired, near, far, stays_down=moved and waits_for_its_engine(desired, far))


def _complete_link(inside: Any, desired: Desired, near: Link, far: Link, stays_down: bool = False) -> None:
    """Set MTU and state of the far end. The host's end follows: until then its MTU is the one that Warren set last."""
    if not mtu_fits(desired, near.mtu, far.mtu):
        inside.link("set", index=far.index, mtu=desired.mtu)
    if not far.up and not stays_down:
        inside.link("set", index=far.index, state="up")


def _configure_host(host: Any, near: Link, mtu: int) -> None:
    if near.mtu != mtu:
        host.link("set", index=near.index, mtu=mtu)
    if not near.up:
        # A port of the bridge needs no address; with one the kernel would send router solicitations into the network.
        host.link("set", index=near.index, IFLA_AF_SPEC=NO_ADDRESS_OF_ITS_OWN)
        host.link("set", index=near.index, state="up")


def _add_address(inside: Any, index: int, address: IPInterface) -> None:
    # Warren gives each address to one endpoint only: duplicate address detection would only delay its use
    flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
    try:
        inside.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _add_route(inside: Any, index: int, destination: str, gateway: str | None) -> None:
    family = socket.AF_INET6 if ":" in f"{destination}{gateway or ''}" else socket.AF_INET
    via = {"gateway": gateway} if gateway is not None else {}
    try:
        inside.route("add", dst=destination, oif=index, family=family, proto=ROUTE_PROTOCOL, **via)
    except NetlinkError as error:
        if error.code != errno.EEXIST:  # keep the route that exists: this endpoint's, or another endpoint's in the same namespace
            raise


# ---- small things ------------------------------------------------------------------------------------------------------


def _link(route: Any, ifname: str) -> Link:
    row = next(iter(route.link("get", ifname=ifname)), None)
    if row is None:
        raise NetlinkError(errno.ENODEV)
    return to_link(row)


def _delete(host: Any, veth: str) -> None:
    if (index := index_of(veth)) is None:
        return
    try:
        host.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # the kernel has deleted it with its namespace meanwhile
            raise
