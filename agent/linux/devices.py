"""Interfaces of the host that other programs have made for a container or a virtual machine: veths (`ve-web`) and taps (`vnet0`).

Warren sets link state, MTU and checksum offload of an endpoint's interface, and restores them when the endpoint goes. It never deletes one.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns
from agent.linux.far_namespace import at_far_end
from agent.linux.interface import Desired, Link
from agent.linux.kernel import index_of, reason
from agent.linux.reading import link_of, to_link
from agent.linux.veth import NO_ADDRESS_OF_ITS_OWN, addr_gen_mode
from warren.errors import Conflict, Unavailable

KINDS = ("veth", "tun")  # a tap's kind is tun
_DATAPATH = "ovs-system"  # the master of Open vSwitch's ports on the kernel's datapath
HEADERS = "the program behind it leaves checksums to the interface, and the userspace datapath computes none (QEMU: -netdev tap,vnet_hdr=off)"
_TAP = 2  # IFLA_TUN_TYPE: TAP, not TUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An interface as it was read. `bridge` is the name of the bridge or bond that it is a port of. `far` is the other end of a veth pair,
    in whatever namespace. `headers` says whether the program behind a tap leaves checksums to the kernel (IFF_VNET_HDR)."""

    link: Link
    kind: str
    bridge: str | None = None
    far: Link | None = None
    headers: bool = False
    addr_gen_mode: int = 0  # how the host's end gets a link-local address (IFLA_INET6_ADDR_GEN_MODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The values of an interface before Warren changed them. The index tells the interface from a later one of the same name."""

    index: int
    up: bool
    mtu: int
    far_mtu: int | None = None
    addr_gen_mode: int = 0


def read(name: str) -> Device | None:
    """Return the interface of that name if it is a veth or a tap. Raises `Unavailable` if the kernel refuses."""
    try:
        with IPRoute() as host:
            return _read(host, name)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot read {name}: {reason(error)}") from error


def take(desired: Desired) -> None:
    """Give an endpoint's interface and its other end the wanted state. Raises `Unavailable`, and `Conflict` if it cannot be the endpoint's."""
    device = usable(desired)
    try:
        with IPRoute() as host:
            if device.link.mtu != desired.mtu:
                host.link("set", index=device.link.index, mtu=desired.mtu)
            _raise_up(host, device)
            if device.far is not None and (device.far.mtu > desired.mtu or desired.offload_off):
                far = device.far
                at_far_end(host, device.link, lambda: _complete_far(far, min(far.mtu, desired.mtu), desired.offload_off))
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot set up {desired.veth}: {reason(error)}") from error


def raise_up(device: Device) -> None:
    """Set an interface up. Raises `Unavailable` if the kernel refuses."""
    try:
        with IPRoute() as host:
            _raise_up(host, device)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot set {device.link.name} up: {reason(error)}") from error


def _raise_up(host: Any, device: Device) -> None:
    """Set an interface up without a link-local address, by which host and machine would reach each other past the switch."""
    if not device.link.up:
        host.link("set", index=device.link.index, IFLA_AF_SPEC=NO_ADDRESS_OF_ITS_OWN)
        host.link("set", index=device.link.index, state="up")


def give_back(name: str, earlier: Earlier) -> None:
    """Restore the values of an interface, if it still exists. Raises `Unavailable` if the kernel refuses."""
    device = read(name)
    if device is None or device.link.index != earlier.index:
        return
    try:
        with IPRoute() as host:
            host.link("set", index=earlier.index, mtu=earlier.mtu, state="up" if earlier.up else "down")
            host.link("set", index=earlier.index, IFLA_AF_SPEC=addr_gen_mode(earlier.addr_gen_mode))
            if device.far is not None and earlier.far_mtu is not None and device.far.mtu != earlier.far_mtu:
                far, mtu = device.far, earlier.far_mtu
                at_far_end(host, device.link, lambda: _complete_far(far, mtu, offload_off=False))
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot give {name} back: {reason(error)}") from error


def earlier(device: Device) -> Earlier:
    """Return the values of an interface that `take` may change. Pure."""
    link, far = device.link, device.far
    return Earlier(
        index=link.index,
        up=link.up,
        mtu=link.mtu,
        far_mtu=far.mtu if far is not None else None,
        addr_gen_mode=device.addr_gen_mode,
    )


def usable(desired: Desired) -> Device:
    """Return the interface for an endpoint. Raises `Unavailable` if it does not exist, `Conflict` if it is a port of a bridge or its other end
    has another MAC."""
    device = read(desired.veth)
    if device is None:
        state = "it is neither a tap nor a veth" if index_of(desired.veth) is not None else "it does not exist (yet)"
        raise Unavailable(f"interface {desired.veth}", state)
    if (problem := obstacle(device)) is not None:
        raise Conflict(f"interface {desired.veth} {problem}", field="device")
    if desired.mac_at_far_end and device.far is not None and device.far.mac != desired.mac:
        raise Conflict(f"the machine behind interface {desired.veth} has MAC {device.far.mac}, not {desired.mac}", field="device")
    return device


def obstacle(device: Device) -> str | None:
    """Return why an interface cannot be an endpoint's. Pure."""
    if device.bridge is not None:
        return f"is a port of {device.bridge}; to release it: ip link set {device.link.name} nomaster"
    return None


def differences(desired: Desired) -> list[str]:
    """Read an interface, and return what `take` would change, a phrase each. Raises as `usable` does."""
    device = usable(desired)
    lines = [] if device.link.up else [f"interface {desired.veth} is down"]
    if device.link.mtu != desired.mtu:
        lines.append(f"interface {desired.veth} has MTU {device.link.mtu} instead of {desired.mtu}")
    if device.far is not None and device.far.mtu > desired.mtu:
        lines.append(f"interface {device.far.name} behind {desired.veth} has MTU {device.far.mtu} instead of {desired.mtu}")
    return lines


# ---- reading -----------------------------------------------------------------------------------------------------------


def _read(host: Any, name: str) -> Device | None:
    index = index_of(name)
    row = next(iter(host.link("get", index=index)), None) if index is not None else None
    info = row.get_attr("IFLA_LINKINFO") if row is not None else None
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    if row is None or info is None or kind not in KINDS:
        return None
    data, link = info.get_attr("IFLA_INFO_DATA"), to_link(row)
    if kind == "tun" and data is not None and data.get_attr("IFLA_TUN_TYPE") not in (None, _TAP):
        return None
    return Device(
        link=link,
        kind=kind,
        bridge=_bridge(row.get_attr("IFLA_MASTER")),
        far=link_of(host, link.peer, link.peer_nsid) if kind == "veth" and link.peer is not None else None,
        addr_gen_mode=_addr_gen_mode(row),
        headers=kind == "tun" and data is not None and bool(data.get_attr("IFLA_TUN_VNET_HDR")),
    )


def _addr_gen_mode(row: Any) -> int:
    families = row.get_attr("IFLA_AF_SPEC")
    ipv6 = families.get_attr("AF_INET6") if families is not None else None
    return int(ipv6.get_attr("IFLA_INET6_ADDR_GEN_MODE") or 0) if ipv6 is not None else 0


def _bridge(index: int | None) -> str | None:
    """Return the name of an interface's master, unless that is Open vSwitch's datapath: OVSDB knows whose port that is."""
    if not index:
        return None
    with contextlib.suppress(OSError):
        name = socket.if_indextoname(index)
        return None if name == _DATAPATH else name
    return None


def _complete_far(far: Link, mtu: int, offload_off: bool) -> None:
    """Set the MTU of the other end, in its namespace, and switch its checksum offload off: the userspace datapath computes no checksums."""
    if far.mtu != mtu:
        with IPRoute() as inside:
            inside.link("set", index=far.index, mtu=mtu)
    if offload_off:
        netns.tx_checksum(far.name, False)
