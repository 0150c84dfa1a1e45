"""DHCPv6 (RFC 8415): one address per client (IA_NA), the endpoint's own, and the name servers. No state."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

from controller.dhcp.frames import Answer, Datagram, Ignored, cut, domains, udp6
from controller.dhcp.lease import SERVER6, SERVER_MAC, DhcpLease
from pipeline.protocols import mac_bytes

SERVER, CLIENT = 547, 546
ALL_SERVERS = IPv6Address("ff02::1:2")
SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
INFORMATION_REQUEST = 11
NAMES = {
    SOLICIT: "solicit", REQUEST: "request6", CONFIRM: "confirm", RENEW: "renew", REBIND: "rebind", RELEASE: "release6",
    DECLINE: "decline6", INFORMATION_REQUEST: "information-request",
}  # fmt: skip
# whether a message must name the server (RFC 8415, 16): True, must not: False, may: None
NAMES_SERVER = {SOLICIT: False, REQUEST: True, CONFIRM: False, RENEW: True, REBIND: False, RELEASE: True, DECLINE: True}
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDRESS, OPTION_REQUEST, PREFERENCE, STATUS, RAPID_COMMIT = 1, 2, 3, 4, 5, 6, 7, 13, 14
DNS, SEARCH, IA_PD = 23, 24, 25
SUCCESS, NO_ADDRESS, NOT_ON_LINK, NO_PREFIX = 0, 2, 4, 6
DUID = struct.pack("!HH", 3, 1) + mac_bytes(SERVER_MAC)  # from the link-layer address: the same on every host
DUID_LONGEST = 130
ASSOCIATIONS_LIMIT = 8  # the most that one message gets an answer to
Options = list[tuple[int, bytes]]


def answer(packet: Datagram, lease: DhcpLease) -> Answer:
    """The answer to a datagram to port 547. Raises `Ignored`."""
    source, data = packet.source, packet.payload
    assert isinstance(source, IPv6Address)
    kind, xid = cut(data, 0, 4)[0], data[1:4]
    if kind not in NAMES:
        raise Ignored("malformed")
    question = NAMES[kind]
    if packet.target != ALL_SERVERS or not source.is_link_local:
        raise Ignored("malformed", question)
    options = _read(data[4:])
    client, server = (
        next((value for code, value in options if code == wanted_code), None) for wanted_code in (CLIENT_ID, SERVER_ID)
    )
    _check(kind, client, server)
    if lease.ipv6 is None:
        raise Ignored("no-address", question)
    rapid = kind == SOLICIT and any(code == RAPID_COMMIT for code, _ in options)
    answered = _answer_options(kind, options, lease, lease.ipv6.ip)
    reply_options = [(CLIENT_ID, client)] if client is not None else []
    reply_options += [(SERVER_ID, DUID), *([(RAPID_COMMIT, b"")] if rapid else []), *answered]
    reply = ADVERTISE if kind == SOLICIT and not rapid else REPLY
    if reply == ADVERTISE:
        reply_options.append((PREFERENCE, b"\xff"))  # the client need not wait for another server
    payload = bytes((reply,)) + xid + _written(reply_options)
    name = "advertise" if reply == ADVERTISE else "reply"
    return Answer(question, name, udp6(lease.mac, SERVER6, source, (SERVER, CLIENT), payload))


def _check(kind: int, client: bytes | None, server: bytes | None) -> None:
    question = NAMES[kind]
    if client is None and kind != INFORMATION_REQUEST or client is not None and not 3 <= len(client) <= DUID_LONGEST:
        raise Ignored("malformed", question)
    named = NAMES_SERVER.get(kind)
    if named is not None and (server is not None) is not named:
        raise Ignored("malformed", question)
    if server is not None and server != DUID:
        raise Ignored("not-ours", question)


def _answer_options(kind: int, options: Options, lease: DhcpLease, endpoint_address: IPv6Address) -> Options:
    """The options of the answer, besides the identifiers of client and server."""
    asked_codes = {code for _, value in _of(options, OPTION_REQUEST) for code in _numbers(value)}
    settings = [(DNS, b"".join(server.packed for server in lease.dns6)), (SEARCH, domains(lease.searched))]
    extra = [(code, value) for code, value in settings if code in asked_codes and value]
    associations = [o for o in options if o[0] in (IA_NA, IA_TA, IA_PD)][:ASSOCIATIONS_LIMIT]
    if kind == CONFIRM:
        held = [address for _, value in associations for address in _held(value)]
        if not held:
            raise Ignored("malformed", NAMES[kind])
        return [_status(SUCCESS if all(address == endpoint_address for address in held) else NOT_ON_LINK)]
    if kind in (RELEASE, DECLINE):  # the address is the endpoint's as long as the endpoint exists
        return [_status(SUCCESS)]
    if kind == INFORMATION_REQUEST:
        return extra
    renewed = kind in (RENEW, REBIND)
    answered: Options = []
    for code, value in associations:
        first = code == IA_NA and all(earlier != IA_NA for earlier, _ in answered)
        answered.append((code, _association(code, value, lease, endpoint_address, first, renewed)))
    return answered + extra


def _association(code: int, value: bytes, lease: DhcpLease, endpoint_address: IPv6Address, first: bool, renewed: bool) -> bytes:
    """The answer for one association: the first gets the address, others the status that none is available. Other addresses that a
    client renews have ended."""
    identity = cut(value, 0, 4)
    if code == IA_TA:
        return identity + _written([_status(NO_ADDRESS)])
    if not first:
        return identity + bytes(8) + _written([_status(NO_PREFIX if code == IA_PD else NO_ADDRESS)])
    ended = [address for address in _held(value) if address != endpoint_address] if renewed else []
    addresses = [(endpoint_address, lease.lease_s), *((address, 0) for address in ended[:ASSOCIATIONS_LIMIT])]
    times = struct.pack("!II", lease.lease_s // 2, lease.lease_s * 4 // 5)
    return identity + times + _written((IA_ADDRESS, a.packed + struct.pack("!II", s, s)) for a, s in addresses)


def _held(association: bytes) -> list[IPv6Address]:
    """The addresses in an IA_NA. Raises `Ignored`."""
    return [IPv6Address(cut(value, 0, 16)) for _, value in _of(_read(association[12:]), IA_ADDRESS)]


def _status(code: int) -> tuple[int, bytes]:
    return STATUS, struct.pack("!H", code)


def _written(options: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def _read(data: bytes) -> Options:
    options: Options = []
    at = 0
    while at < len(data):
        code, length = struct.unpack("!HH", cut(data, at, 4))
        options.append((code, cut(data, at + 4, length)))
        at += 4 + length
    return options


def _of(options: Options, wanted_code: int) -> Options:
    return [option for option in options if option[0] == wanted_code]


def _numbers(value: bytes) -> tuple[int, ...]:
    return struct.unpack(f"!{len(value) // 2}H", value[: len(value) // 2 * 2])
