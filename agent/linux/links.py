"""Listens to events of the endpoints' interfaces, on this host and inside all their namespaces, with one socket.

The kernel numbers the namespaces of far ends (rtnetlink(7), IFLA_LINK_NETNSID) and sends the events of numbered namespaces to
a socket that asks for them (NETLINK_LISTEN_ALL_NSID). A filter in the kernel drops events that cannot be damage, so that
containers that change many routes cost nothing here. Messages are parsed without pyroute2, to save time: most of them come
from attaches.
"""

from __future__ import annotations

import ctypes
import logging
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.linux.reading import links
from warren.worker import Worker

log = logging.getLogger("warren.links")

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, and addresses and routes of IPv4 and IPv6
RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE = 16, 17, 21, 25
LISTEN_S = 1.0  # how long a step waits for a message before the worker checks whether it must stop
SEEN_LIMIT = 100_000  # interfaces
BUFFER = 8 << 20  # bytes of messages that may wait
_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, _SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 270, 8, 33, 26
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port (netlink(7))
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")
_MAC, _IFNAME, _MTU, _LINK_OF_PEER, _NSID, _IFF_UP = 1, 3, 4, 5, 37, 1
_VETH = re.compile(r"wv[0-9a-f]{12}\Z")


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _network_order(value: int) -> int:
    """Return a 16-bit number of the message as the filter loads it, which is in network byte order."""
    return int.from_bytes(struct.pack("=H", value), "big")


# classic BPF: 0x28 loads 16 bits, 0x30 loads 8 bits, 0x15 compares, 0x06 returns
FILTER = b"".join((
    _instruction(0x28, 0, 0, 4),  # the message's type
    _instruction(0x15, 5, 0, _network_order(RTM_NEWLINK)),
    _instruction(0x15, 4, 0, _network_order(RTM_DELLINK)),
    _instruction(0x15, 3, 0, _network_order(RTM_DELADDR)),
    _instruction(0x15, 0, 3, _network_order(RTM_DELROUTE)),
    _instruction(0x30, 0, 0, 17),  # the length of the route's prefix: 0 is a default route
    _instruction(0x15, 0, 1, 0),
    _instruction(0x06, 0, 0, 0xFFFFFFFF),
    _instruction(0x06, 0, 0, 0),
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """The content of a message about an interface. `nsid` is the id of its namespace, None for the host's. `gone` means that the
    interface was deleted; `lost` that an address or a default route was removed."""

    nsid: int | None
    index: int
    name: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    peer: int | None = None
    peer_nsid: int | None = None
    gone: bool = False
    lost: bool = False


def parse(data: bytes, nsid: int | None) -> Iterator[LinkEvent]:
    """Yield the events in netlink messages."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        body = data[_HEADER.size : length]
        if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= _LINK.size:
            yield _of_link(body, nsid, kind == RTM_DELLINK)
        elif kind == RTM_DELADDR and len(body) >= 8:
            yield LinkEvent(nsid, int(struct.unpack_from("=I", body, 4)[0]), lost=True)
        elif kind == RTM_DELROUTE:
            yield LinkEvent(nsid, 0, lost=True)  # of any interface there: the kernel names none for a multipath route
        data = data[max(_HEADER.size, (length + 3) & ~3) :]


def _of_link(body: bytes, nsid: int | None, gone: bool) -> LinkEvent:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    values: dict[int, bytes] = {}
    position = _LINK.size
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        if length < _ATTRIBUTE.size:
            break
        if kind in (_MAC, _IFNAME, _MTU, _LINK_OF_PEER, _NSID):
            values[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    number = {kind: int.from_bytes(value, sys.byteorder) for kind, value in values.items() if len(value) == 4}
    return LinkEvent(
        nsid,
        index,
        name=values.get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        mac=values.get(_MAC, b"").hex(":"),
        mtu=number.get(_MTU, 0),
        up=bool(flags & _IFF_UP),
        peer=number.get(_LINK_OF_PEER),
        peer_nsid=number.get(_NSID),
        gone=gone,
    )


@dataclass(slots=True)
class FarEnds:
    """Maps far ends to Warren's veths, by namespace and index, learnt from events of the host's ends. Pure."""

    _veths: dict[tuple[int | None, int], str] = field(default_factory=dict)  # namespace and index of the far end -> veth
    _places: dict[str, tuple[int | None, int]] = field(default_factory=dict)

    def learn(self, event: LinkEvent) -> None:
        """Learn from an event of a host's end."""
        self._veths.pop(self._places.pop(event.name, (None, 0)), None)
        if event.peer is not None and not event.gone:
            place = (event.peer_nsid, event.peer)
            self._veths[place], self._places[event.name] = event.name, place

    def veths(self, event: LinkEvent) -> list[str]:
        """Return the veths whose far ends an event concerns. An event with index 0 concerns all in its namespace."""
        if event.index:
            return [veth] if (veth := self._veths.get((event.nsid, event.index))) is not None else []
        return [veth for (nsid, _), veth in self._veths.items() if nsid == event.nsid]


class Links:
    """Calls `on_damage` with the name of a veth when one of its ends may be damaged: deleted, down, with another name, MAC or MTU
    than before, or without an address or default route that it had. Calls `on_other` with the name of any other interface of the
    host when it appears, changes in one of these ways or goes, and `on_missed` when messages were lost."""

    def __init__(self, on_damage: Callable[[str], None], on_other: Callable[[str], None], on_missed: Callable[[], None]) -> None:
        self._on_damage, self._on_other, self._on_missed = on_damage, on_other, on_missed
        self._far_ends = FarEnds()
        self._seen: dict[tuple[int | None, int], tuple[str, str, int]] = {}
        self._socket = listening()
        self._learnt = False
        self.worker = Worker("links", self._step, interval_s=0)

    def _step(self, items: frozenset[str]) -> None:
        if not self._learnt:
            self._learn()
        try:
            data, ancillary, *_ = self._socket.recvmsg(1 << 16, 64)
        except TimeoutError:
            return
        except OSError as error:  # ENOBUFS: messages were lost because the socket's buffer was full
            log.info("links.missed reason=%s", error)
            self._learnt = False
            self._on_missed()
            return
        nsids = [struct.unpack("=i", value)[0] for level, kind, value in ancillary if level == _SOL_NETLINK and kind == 8]
        for event in parse(data, nsids[0] if nsids else None):
            self._take(event)

    def _learn(self) -> None:
        """Read where the far ends are now. The socket listens already, so no later event is lost."""
        self._learnt = True
        self._seen.clear()
        for link in links():
            if _VETH.match(link.name):
                event = LinkEvent(None, link.index, link.name, link.mac, link.mtu, link.up, link.peer, link.peer_nsid)
                self._far_ends.learn(event)

    def _take(self, event: LinkEvent) -> None:
        ours = event.nsid is None and _VETH.match(event.name) is not None
        if ours:
            self._far_ends.learn(event)
        names = [event.name] if ours else self._far_ends.veths(event)
        other = event.nsid is None and not ours and event.name != ""
        if (names or other) and (event.gone or event.lost or self._suspicious(event)):
            for name in names:
                self._on_damage(name)
            if other:
                self._on_other(event.name)

    def _suspicious(self, event: LinkEvent) -> bool:
        """Return whether the interface is down, or has another name, MAC or MTU than in the event before."""
        key, state = (event.nsid, event.index), (event.name, event.mac, event.mtu)
        before = self._seen.get(key)
        if len(self._seen) > SEEN_LIMIT:
            self._seen.clear()
        self._seen[key] = state
        return before != state or not event.up


def listening() -> socket.socket:
    """Return a socket that receives the events of the host's namespace, and of all namespaces with an id in it if the kernel and
    the agent's capabilities (CAP_NET_BROADCAST) allow that."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    for level, option in ((_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID), (socket.SOL_SOCKET, _SO_RCVBUFFORCE)):
        try:
            events.setsockopt(level, option, 1 if level == _SOL_NETLINK else BUFFER)
        except OSError as error:
            log.info("links.option_refused option=%d reason=%s", option, error)
    program = ctypes.create_string_buffer(FILTER)
    events.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(FILTER) // 8, ctypes.addressof(program)))
    events.bind((0, GROUPS))
    events.settimeout(LISTEN_S)
    return events
