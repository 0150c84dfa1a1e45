"""DHCPv4 (RFC 2131, options RFC 2132): parses a client's message and makes the answer. No state: the lease is the endpoint's
record."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.dhcp.frames import BROADCAST, BROADCAST_MAC, Answer, Datagram, Ignored, cut, domains, udp4
from controller.dhcp.lease import DhcpLease
from pipeline.protocols import mac_bytes
from specs.model.dhcp import SERVER4

SERVER, CLIENT = 67, 68
COOKIE = bytes((99, 130, 83, 99))
PAD, END = 0, 255
(
    MASK, ROUTER, DNS, HOST_NAME, DOMAIN, MTU, REQUESTED, LEASE_TIME, OVERLOAD, TYPE, SERVER_ID, REQUEST_LIST, MESSAGE,
    LARGEST, T1, T2, CLIENT_ID, ROUTES, ROOT_PATH, NTP, VENDOR_CLASS, BOOT_SERVER, BOOT_FILE, USER_CLASS, ARCHITECTURE, SEARCH,
) = 1, 3, 6, 12, 15, 26, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 121, 17, 42, 60, 66, 67, 77, 93, 119  # fmt: skip
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
NAMES = {
    DISCOVER: "discover", OFFER: "offer", REQUEST: "request", DECLINE: "decline", ACK: "ack", NAK: "nak",
    RELEASE: "release", INFORM: "inform",
}  # fmt: skip
ARCHITECTURES = {0: "bios", 6: "efi-ia32", 7: "efi-x86_64", 9: "efi-x86_64", 11: "efi-arm64", 16: "http-x86_64", 19: "http-arm64"}
HTTP_CLIENT = b"HTTPClient"
UNSET = IPv4Address(0)
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_SMALLEST = 300  # bytes of a message: some clients accept no shorter one (RFC 1542, 2.1)
_LEAST_ROOM = 576  # bytes of an IP packet that every client accepts


@dataclass(frozen=True, slots=True)
class Message:
    """A client's message."""

    kind: int
    xid: int
    flags: int
    ciaddr: IPv4Address
    options: dict[int, bytes]

    @property
    def broadcast(self) -> bool:
        """Whether the client needs a broadcast answer, because it cannot take a packet to an address that it does not have yet."""
        return bool(self.flags & 0x8000)


def answer(packet: Datagram, lease: DhcpLease) -> Answer:
    """The answer to a datagram to port 67. Raises `Ignored`."""
    message = _read(packet.payload, lease.mac)
    question = NAMES[message.kind]
    if lease.ipv4 is None:
        raise Ignored("no-address", question)
    if message.kind in (RELEASE, DECLINE):  # the address is the endpoint's as long as the endpoint exists
        return Answer(question)
    kind = _verdict(message, lease, lease.ipv4.ip)
    if kind is None:
        raise Ignored("not-ours", question)
    return Answer(question, NAMES[kind], _reply(message, lease, kind, lease.ipv4.ip))


def _verdict(message: Message, lease: DhcpLease, endpoint_address: IPv4Address) -> int | None:
    """The kind of answer (RFC 2131, 4.3); None: the client speaks to another server."""
    server, requested = (_address(message.options, code) for code in (SERVER_ID, REQUESTED))
    if message.kind == DISCOVER:
        return OFFER
    if message.kind == INFORM:
        return ACK if message.ciaddr == endpoint_address else None
    if server is not None and server != lease.server4:  # it has chosen another server's offer
        return None
    requested_address = requested if requested is not None else message.ciaddr  # the latter when it renews
    if requested_address == UNSET:
        raise Ignored("malformed", NAMES[message.kind])
    return ACK if requested_address == endpoint_address else NAK


def _reply(message: Message, lease: DhcpLease, kind: int, endpoint_address: IPv4Address) -> bytes:
    inform = message.kind == INFORM
    client = endpoint_address if kind == ACK and message.ciaddr == endpoint_address else UNSET
    given = UNSET if kind == NAK or inform else endpoint_address
    flags = 0x8000 if kind == NAK else message.flags & 0x8000
    fixed = _FIXED.pack(
        2,
        1,
        6,
        0,
        message.xid,
        0,
        flags,
        client.packed,
        given.packed,
        lease.boot.server.packed if lease.boot is not None and kind != NAK else bytes(4),
        bytes(4),
        mac_bytes(lease.mac),
        bytes(64),
        _boot_file(message, lease) if kind != NAK else b"",
    )
    room = min(max(_number(message.options.get(LARGEST, b"")), _LEAST_ROOM), max(lease.mtu, _LEAST_ROOM)) - 28
    payload = (fixed + COOKIE + _options(message, lease, kind, room - len(fixed) - len(COOKIE))).ljust(_SMALLEST, b"\0")
    if message.broadcast or kind == NAK:
        mac, target = BROADCAST_MAC, BROADCAST
    else:
        mac, target = lease.mac, endpoint_address
    return udp4(mac, lease.server4, target, (SERVER, CLIENT), payload)


def _options(message: Message, lease: DhcpLease, kind: int, room: int) -> bytes:
    """The options in order: required ones, then those that the client requests, then the others, as far as there is room."""
    required = [_option(TYPE, bytes((kind,))), _option(SERVER_ID, lease.server4.packed)]
    if CLIENT_ID in message.options:
        required.append(_option(CLIENT_ID, message.options[CLIENT_ID]))  # RFC 6842
    if kind == NAK:
        required.append(_option(MESSAGE, b"not the address of this port"))
        return b"".join(required) + bytes((END,))
    if message.kind != INFORM:
        seconds = ((LEASE_TIME, lease.lease_s), (T1, lease.lease_s // 2), (T2, lease.lease_s * 7 // 8))
        required += [_option(code, struct.pack("!I", value)) for code, value in seconds]
    options = b"".join(required)
    asked_codes = message.options.get(REQUEST_LIST, b"")
    for code, value in sorted(
        _configuration(message, lease), key=lambda option: option[0] != MASK and option[0] not in asked_codes
    ):
        if value and len(options) + 2 + len(value) < room:
            options += _option(code, value)
    return options + bytes((END,))


def _boot_file(message: Message, lease: DhcpLease) -> bytes:
    """The boot file of a client: iPXE's file if iPXE runs already (user class, RFC 3004), else the file of the client's architecture (RFC 4578),
    else the common one."""
    boot = lease.boot
    if boot is None:
        return b""
    codes = message.options.get(ARCHITECTURE, b"")
    kinds = ["ipxe"] if message.options.get(USER_CLASS, b"").removeprefix(b"\x04") == b"iPXE" else []
    kinds += [ARCHITECTURES.get(int.from_bytes(codes[at : at + 2], "big"), "") for at in range(0, len(codes) - 1, 2)]
    files = {str(kind): file for kind, file in boot.files.items()}
    return next((files[kind] for kind in kinds if kind in files), boot.file or "").encode()


def _booting(message: Message, lease: DhcpLease) -> list[tuple[int, bytes]]:
    """The options of network boot. A client that boots by HTTP accepts only an offer that repeats its vendor class."""
    if lease.boot is None:
        return []
    by_http = message.options.get(VENDOR_CLASS, b"").startswith(HTTP_CLIENT)
    return [
        (BOOT_FILE, _boot_file(message, lease)),
        (BOOT_SERVER, str(lease.boot.server).encode()),
        (ROOT_PATH, (lease.boot.root_path or "").encode()),
        (VENDOR_CLASS, HTTP_CLIENT if by_http else b""),
    ]


def _configuration(message: Message, lease: DhcpLease) -> list[tuple[int, bytes]]:
    """All options that the lease gives, the most important first; the mask comes before the router (RFC 2132, 3.3)."""
    assert lease.ipv4 is not None
    return [
        (MASK, lease.ipv4.netmask.packed),
        (ROUTES, _routes(lease)),
        (ROUTER, lease.router4.packed if lease.router4 is not None else b""),
        (DNS, b"".join(server.packed for server in lease.dns4)),
        (MTU, struct.pack("!H", lease.mtu)),
        (DOMAIN, lease.domain.encode()),
        (HOST_NAME, lease.name.encode()),
        *_booting(message, lease),
        (NTP, b"".join(server.packed for server in lease.ntp)),
        (SEARCH, domains(lease.search)),
    ]


def _routes(lease: DhcpLease) -> bytes:
    """Classless routes (RFC 3442). A client that gets them ignores the router option, so the default route is among them.
    Without a gateway the server is on-link (next hop 0.0.0.0), so that a client can renew with it."""
    routes = [(route.to, route.via) for route in lease.routes]
    packed = b"".join(_route(to.network_address, to.prefixlen, via) for to, via in routes)
    if lease.router4 is None:
        return _route(SERVER4, 32, UNSET) + packed
    return _route(UNSET, 0, lease.router4) + packed if packed else b""


def _route(to: IPv4Address, length: int, via: IPv4Address) -> bytes:
    return bytes((length,)) + to.packed[: (length + 7) // 8] + via.packed


def _option(code: int, value: bytes) -> bytes:
    assert len(value) < 256
    return bytes((code, len(value))) + value


# ---- in ---------------------------------------------------------------------------------------------------------------


def _read(data: bytes, mac: str) -> Message:
    op, hardware, length, _, xid, _, flags, ciaddr, _, _, giaddr, chaddr, sname, file = _FIXED.unpack(cut(data, 0, _FIXED.size))
    if cut(data, _FIXED.size, 4) != COOKIE or (op, hardware, length) != (1, 1, 6):
        raise Ignored("malformed")
    if giaddr != bytes(4):
        raise Ignored("relayed")
    if chaddr[:6] != mac_bytes(mac):
        raise Ignored("not-its-mac")
    options: dict[int, bytes] = {}
    _collect(data[_FIXED.size + 4 :], options)
    overloaded = _number(options.get(OVERLOAD, b""))
    for bit, field in ((1, file), (2, sname)):  # in this order (RFC 2131, 4.1); an overload option inside them is ignored
        if overloaded & bit:
            _collect(field, options)
    kind = options.get(TYPE, b"")
    if len(kind) != 1 or kind[0] not in (DISCOVER, REQUEST, DECLINE, RELEASE, INFORM) or len(options.get(CLIENT_ID, b"")) > 255:
        raise Ignored("malformed")
    return Message(kind[0], xid, flags, IPv4Address(ciaddr), options)


def _collect(field: bytes, options: dict[int, bytes]) -> None:
    """The options of one field; the pieces of a split option are joined (RFC 3396). Raises `Ignored`."""
    at = 0
    while at < len(field) and field[at] != END:
        if field[at] == PAD:
            at += 1
            continue
        code, length = cut(field, at, 2)
        options[code] = options.get(code, b"") + cut(field, at + 2, length)
        at += 2 + length


def _number(value: bytes) -> int:
    return int.from_bytes(value[:2], "big")


def _address(options: dict[int, bytes], code: int) -> IPv4Address | None:
    if code not in options:
        return None
    if len(options[code]) != 4:
        raise Ignored("malformed")
    return IPv4Address(options[code])
