"""The veth pair of an endpoint: the host's end is a port of the bridge, the far end is the container's interface.

One rtnetlink(7) request creates the pair, with the far end inside the namespace and its name, MAC and MTU set; after a crash
the pair exists completely or not at all. Everything after that request is idempotent, so `plug` completes what exists.
Warren recognises its own veths by their names.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns as namespaces
from specs.model.derived import VETH_PREFIX, veth_mac
from warren.errors import MISSING, Conflict, Invalid, Unavailable

log = logging.getLogger("warren.plug")

_VETH = re.compile(re.escape(VETH_PREFIX) + r"[0-9a-f]{12}\Z")
NO_ADDRESS_OF_ITS_OWN = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", 1]]}]]}
_IFA_F_NODAD = 0x02
_TRIES = 16

_reserved: set[tuple[int, int, str]] = set()  # device and inode of the namespace, interface name
_reserving = threading.Lock()


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of an endpoint's veth pair. `whole` means that `plug` would change nothing; otherwise `missing` names what
    is missing. `interface` is the name of the far end, if it is inside the namespace."""

    exists: bool
    interface: str | None
    missing: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Return whether nothing is missing."""
        return self.exists and not self.missing


@dataclass(frozen=True, slots=True)
class _Desired:
    veth: str
    interface: str | None
    mac: str
    addresses: tuple[Any, ...]
    mtu: int
    routes: tuple[tuple[str, str | None], ...]
    offload_off: bool
    enable_ipv6: bool


def plug(
    *,
    veth: str,
    netns: str | None,
    interface: str | None,
    mac: str,
    addresses: Iterable[str],
    mtu: int,
    offload_off: bool,
    gateways: Iterable[str] = (),
    routes: Iterable[tuple[str, str | None]] = (),
    enable_ipv6: bool = False,
) -> str:
    """Create the pair, or complete or recreate an existing one; return the name of the far end.

    `netns` None leaves the far end in the host's namespace (for an engine that moves it itself). `interface` None takes the
    next free ethN. `addresses` have prefix lengths. `gateways` become default routes unless one exists; `routes` are
    (destination, next hop or None). `mtu` is in bytes. `enable_ipv6` enables IPv6 on an interface that obtains its IPv6
    address by itself. `offload_off` makes the far end compute its checksums in software, which the userspace datapath needs.

    Raises `Invalid` for an unusable namespace, `Conflict` if the name is taken there, `Unavailable` if the kernel refuses.
    """
    defaults = tuple(("default6" if ":" in gateway else "default4", gateway) for gateway in gateways)
    parsed = tuple(ip_interface(address) for address in addresses)
    desired = _Desired(veth, interface, mac.lower(), parsed, mtu, (*routes, *defaults), offload_off, enable_ipv6)
    with _namespace(netns) as fd:
        try:
            return namespaces.in_thread(lambda: _plug(desired, fd, netns))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot plug {veth} into {netns or 'the host'}: {_reason(error)}") from error


def unplug(veth: str) -> None:
    """Remove both ends of the pair, if it exists. Raises `Unavailable` if the kernel refuses."""

    def work() -> None:
        with IPRoute() as host:
            _delete(host, veth)

    try:
        namespaces.in_thread(work)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot remove {veth}: {_reason(error)}") from error


def change_mac(veth: str, netns: str, current: str, desired: str) -> bool:
    """Change the MAC of the far end if it is in the namespace and up; return whether it was. `current` is its MAC before.
    Raises `Invalid` if the namespace does not exist, `Unavailable` if the kernel refuses."""

    def work(fd: int) -> bool:
        with IPRoute() as host:
            index = _index(veth)
            namespaces.enter(fd)
            with IPRoute() as inside:
                peer = peer_of(host, inside, index, current) if index is not None else None
                if peer is None or not peer["flags"] & 1:
                    return False
                inside.link("set", index=peer["index"], address=desired)
                return True

    with namespaces.opened(netns) as fd:
        try:
            return namespaces.in_thread(lambda: work(fd))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot change the MAC of {veth} in {netns}: {_reason(error)}") from error


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
            raise Unavailable("the kernel", f"cannot move {interface} into {netns}: {_reason(error)}") from error


def exists(veth: str) -> bool:
    """Return whether the host's end exists. (The kernel deletes it together with the namespace of the far end.)"""
    return _index(veth) is not None


def up(interface: str) -> None:
    """Set an interface of the host up. Raises `Unavailable` if it does not exist or the kernel refuses."""
    with IPRoute() as host:
        if (index := _index(interface)) is None:
            raise Unavailable(f"interface {interface}", "it does not exist (yet)")
        try:
            if not _one(host, index=index)["flags"] & 1:
                host.link("set", index=index, state="up")
        except NetlinkError as error:
            raise Unavailable("the kernel", f"cannot set {interface} up: {_reason(error)}") from error


def veths(prefix: str = VETH_PREFIX) -> list[str]:
    """Return the names of the host's ends of all endpoints, without interfaces that only share the prefix."""
    names = namespaces.interfaces()
    return sorted(name for name in names if name.startswith(prefix) and (prefix != VETH_PREFIX or _VETH.match(name)))


def peer_name(endpoint_id: str) -> str:
    """Return the name of a far end that stays in the host's namespace; the sweep leaves interfaces of that form alone."""
    return "wp" + hashlib.sha256(endpoint_id.encode()).hexdigest()[:12]


def inspect(
    *, veth: str, netns: str | None, mac: str, addresses: Iterable[str] = (), mtu: int | None = None, offload_off: bool = False
) -> Seen:
    """Return the state of the pair; change nothing. Raises `Invalid` for an unusable namespace."""
    parsed = tuple(ip_interface(address) for address in addresses)
    with _namespace(netns) as fd:
        return namespaces.in_thread(lambda: _inspect(veth, fd, mac.lower(), parsed, mtu, offload_off))


@contextlib.contextmanager
def reserve(netns: str | None, interface: str | None) -> Iterator[str]:
    """Choose the interface's name in the namespace (the next free ethN if `interface` is None) and meanwhile keep other
    attaches of this process from choosing it. Raises `Invalid` for an unusable namespace, `Conflict` if the name is taken."""
    if netns is None:
        raise Invalid("netns", MISSING, f"an endpoint needs {namespaces.EXPECTED}")
    names = namespaces.inside(netns, namespaces.interfaces)
    namespace = _identity(netns)
    with _reserving:
        taken = set(names) | {name for device, inode, name in _reserved if (device, inode) == namespace}
        if interface is not None and interface in taken:
            raise Conflict(f"interface {interface!r} already exists in {netns}")
        chosen = interface or _free(taken)
        _reserved.add((*namespace, chosen))
    try:
        yield chosen
    finally:
        with _reserving:
            _reserved.discard((*namespace, chosen))


# ---- in a thread that enters the namespace ------------------------------------------------------------------------------


def _plug(desired: _Desired, fd: int | None, netns: str | None) -> str:
    """Create or complete the pair. Opens the host's netlink socket first, because that socket stays in the host's namespace
    when the thread enters the container's."""
    with IPRoute() as host:
        index = _index(desired.veth)
        if fd is not None:
            namespaces.enter(fd)
        # without a namespace the host's socket serves for both ends: opening another takes milliseconds
        with IPRoute() if fd is not None else contextlib.nullcontext(host) as inside:
            peer = peer_of(host, inside, index, desired.mac) if index is not None else None
            if index is not None and peer is None:
                log.info("plug.remade veth=%s netns=%s", desired.veth, netns)
                host.link("del", index=index)
                index = None
            if index is None:
                peer = _create(host, inside, desired, fd, netns)
                index = _one(host, ifname=desired.veth)["index"]
            assert peer is not None
            name = _configure(inside, peer, desired)
        _configure_host(host, index, desired.mtu)
        return name


def _create(host: Any, inside: Any, desired: _Desired, fd: int | None, netns: str | None) -> Any:
    for _ in range(_TRIES):
        name = desired.interface or _free(namespaces.interfaces())
        peer = {"ifname": name, "address": desired.mac, "mtu": desired.mtu}
        if fd is not None:
            peer["net_ns_fd"] = fd
        try:
            host.link("add", ifname=desired.veth, kind="veth", address=veth_mac(desired.veth), mtu=desired.mtu, peer=peer)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            if desired.interface is not None:
                raise Conflict(f"interface {desired.interface!r} already exists in {netns or 'the host'}") from None
            continue  # another process has taken the name meanwhile
        return _one(inside, ifname=name)
    raise Conflict(f"no free interface name in {netns or 'the host'}")


def _configure(inside: Any, peer: Any, desired: _Desired) -> str:
    name, index = peer.get_attr("IFLA_IFNAME"), peer["index"]
    if desired.offload_off:
        namespaces.tx_checksum(name, False)
    if desired.enable_ipv6:
        namespaces.allow_ipv6(name)
    for address in desired.addresses:
        _add_address(inside, index, name, address)
    if peer.get_attr("IFLA_MTU") != desired.mtu:
        inside.link("set", index=index, mtu=desired.mtu)
    if not peer["flags"] & 1:
        inside.link("set", index=index, state="up")
    for destination, gateway in desired.routes:
        _add_route(inside, index, destination, gateway)
    return str(name)


def _configure_host(host: Any, index: int, mtu: int) -> None:
    link = _one(host, index=index)
    if link.get_attr("IFLA_MTU") != mtu:
        host.link("set", index=index, mtu=mtu)
    if not link["flags"] & 1:
        # A port of the bridge needs no address; with one the kernel would send router solicitations into the network.
        host.link("set", index=index, IFLA_AF_SPEC=NO_ADDRESS_OF_ITS_OWN)
        host.link("set", index=index, state="up")


def _add_address(inside: Any, index: int, name: str, address: Any) -> None:
    # Warren gives each address to one endpoint only: duplicate address detection would only delay its use
    flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
    for attempt in (1, 2):
        try:
            inside.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags)
            return
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return
            if attempt == 2 or address.version == 4 or error.code not in (errno.EACCES, errno.EPERM):
                raise
            namespaces.allow_ipv6(name)


def _add_route(inside: Any, index: int, destination: str, gateway: str | None) -> None:
    family = socket.AF_INET6 if ":" in destination or destination == "default6" else socket.AF_INET
    via = {"gateway": gateway} if gateway is not None else {}
    to = "default" if destination.startswith("default") else destination
    try:
        inside.route("add", dst=to, oif=index, family=family, **via)
    except NetlinkError as error:
        if error.code != errno.EEXIST:  # keep the route that exists: this endpoint's, or another endpoint's in the same namespace
            raise


def peer_of(host: Any, inside: Any, index: int, mac: str) -> Any | None:
    """Return the far end if it is in this thread's namespace, otherwise None. Each end refers to the other by index; because
    indexes repeat between namespaces, the MAC must match too."""
    link = _one(host, index=index)
    peer_index = link.get_attr("IFLA_LINK")
    if peer_index is None:
        return None
    try:
        peer = _one(inside, index=peer_index)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    kind = (peer.get_attr("IFLA_LINKINFO") or {}).get("kind")
    same = kind == "veth" and peer.get_attr("IFLA_LINK") == index and peer.get_attr("IFLA_ADDRESS") == mac
    return peer if same else None


def _inspect(veth: str, fd: int | None, mac: str, addresses: tuple[Any, ...], mtu: int | None, offload_off: bool) -> Seen:
    with IPRoute() as host:
        index = _index(veth)
        if index is None:
            return Seen(False, None, (veth,))
        if fd is not None:
            namespaces.enter(fd)
        with IPRoute() as inside:
            peer = peer_of(host, inside, index, mac)
            if peer is None:
                return Seen(True, None, ("far end",))
            name = peer.get_attr("IFLA_IFNAME")
            missing: list[str] = []
            for side, link in (("host side", _one(host, index=index)), ("far end", peer)):
                if not link["flags"] & 1:
                    missing.append(f"{side} up")
                if mtu is not None and link.get_attr("IFLA_MTU") != mtu:
                    missing.append(f"{side} mtu")
            present = {(row.get_attr("IFA_ADDRESS"), row["prefixlen"]) for row in inside.get_addr(index=peer["index"])}
            missing += [str(a) for a in addresses if (str(a.ip), a.network.prefixlen) not in present]
            if offload_off and namespaces.tx_checksum(name):
                missing.append("offload off")
            return Seen(True, name, tuple(missing))


# ---- small things ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _namespace(netns: str | None) -> Iterator[int | None]:
    if netns is None:
        yield None
        return
    with namespaces.opened(netns) as fd:
        yield fd


def _identity(netns: str) -> tuple[int, int]:
    with namespaces.opened(netns) as fd:
        stat = os.fstat(fd)
        return stat.st_dev, stat.st_ino


def _one(route: Any, **what: Any) -> Any:
    links = list(route.link("get", **what))
    if not links:
        raise NetlinkError(errno.ENODEV)
    return links[0]


def _delete(host: Any, veth: str) -> None:
    if (index := _index(veth)) is None:
        return
    try:
        host.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # the kernel has deleted it with its namespace meanwhile
            raise


def _index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _free(taken: Iterable[str]) -> str:
    names = set(taken)
    return next(name for name in (f"eth{number}" for number in range(len(names) + 1)) if name not in names)


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    return f"{errno.errorcode.get(code, code)}: {error}" if isinstance(code, int) else str(error)
