"""Dumps of rtnetlink(7), parsed only as far as needed.

A host with 1000 containers has thousands of interfaces and IPv6 routes that nobody asks for. pyroute2 takes about a millisecond for each, this module some
microseconds.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

LINKS, ADDRESSES, ROUTES, RULES = 18, 22, 26, 34  # RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE
_FIXED = {LINKS: 16, ADDRESSES: 8, ROUTES: 12, RULES: 12}  # sizes of struct ifinfomsg, ifaddrmsg, rtmsg, fib_rule_hdr
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST, NLM_F_DUMP
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
TIMEOUT_S = 10.0


def dump(kind: int, family: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fixed part and the attributes of each object of a kind. Raises `OSError`."""
    size = _FIXED[kind]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(TIMEOUT_S)
        body = bytes((family,)).ljust(size, b"\0")
        sock.send(_HEADER.pack(_HEADER.size + size, kind, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 18)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, message, *_ = _HEADER.unpack_from(data, offset)
                begin = offset + _HEADER.size
                if message == _DONE:
                    return
                if message == _ERROR:
                    code = -struct.unpack_from("=i", data, begin)[0]
                    raise OSError(code, os.strerror(code))
                yield data[begin : begin + size], data[begin + size : offset + length]
                offset += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by their numbers."""
    values: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        values[kind & _TYPE] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return values


def number(data: bytes | None) -> int:
    """Return a number of 32 bits; 0 without one."""
    return int(struct.unpack("=I", data[:4])[0]) if data else 0
