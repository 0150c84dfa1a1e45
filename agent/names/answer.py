"""Answers one DNS message (RFC 1034, 1035, 6891). Pure: a message in, a message out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from agent.names.index import Addresses, NameIndex
from specs.model.network import Network

TTL_S = 5  # endpoints come and go: nobody keeps an answer for long
UDP_LEAST, UDP_MOST = 512, 1232  # bytes of a message: without EDNS, and as fits any path without fragments
TCP_MOST = 65_535
HEADER = struct.Struct("!HHHHHH")
RECORDS_LIMIT = 256
_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
_QR, _OPCODE, _RD, _TC = 0x8000, 0x7800, 0x0100, 0x0200


@dataclass(frozen=True, slots=True)
class Forward:
    """The question is for a name outside: the host's name servers answer it. `limit` is how many bytes the asker takes."""

    limit: int


def answer(wire: bytes, names: NameIndex | None, network: Network | None, *, tcp: bool) -> bytes | Forward | None:
    """The answer to a question of an endpoint on `network`; None if it gets none. Without `names` nothing is known yet."""
    if len(wire) < HEADER.size:
        return None
    number, flags, questions, *_ = HEADER.unpack_from(wire)
    if flags & _QR:  # an answer to an answer might go round for ever
        return None
    if flags & _OPCODE:
        return _bare(number, flags, dns.rcode.NOTIMP)
    if questions != 1:
        return _bare(number, flags, dns.rcode.FORMERR)
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
        return _reply(query, names, network, TCP_MOST if tcp else _limit(query))
    except (dns.exception.DNSException, ValueError):
        return _bare(number, flags, dns.rcode.FORMERR)


def failed(wire: bytes) -> bytes:
    """The answer to a question that nobody has answered. It repeats the question: resolvers take no other answer for theirs."""
    number, flags, *_ = HEADER.unpack_from(wire)
    header = HEADER.pack(number, _QR | flags & _RD | int(dns.flags.RA) | dns.rcode.SERVFAIL, 1, 0, 0, 0)
    return header + wire[HEADER.size : end_of_question(wire)]


def end_of_question(wire: bytes) -> int:
    """Where the first question of a message ends."""
    position = HEADER.size
    while position < len(wire) and wire[position]:
        position += wire[position] + 1
    return min(len(wire), position + 5)


def shortened(wire: bytes, limit: int) -> bytes:
    """A message that fits the limit: one that does not says that it is truncated, and nothing else."""
    if len(wire) <= limit:
        return wire
    number, flags, questions, *_ = HEADER.unpack_from(wire)
    return (
        HEADER.pack(number, flags | _TC, questions, 0, 0, 0)
        + wire[HEADER.size : end_of_question(wire) if questions else HEADER.size]
    )


def _limit(query: dns.message.Message) -> int:
    return max(UDP_LEAST, min(query.payload, UDP_MOST)) if query.edns >= 0 else UDP_LEAST


def _bare(number: int, flags: int, code: int) -> bytes:
    """A header alone, for a message that could not be read or need not be."""
    return HEADER.pack(number, _QR | flags & (_OPCODE | _RD) | int(dns.flags.RA) | code, 0, 0, 0, 0)


def _reply(query: dns.message.Message, names: NameIndex | None, network: Network | None, limit: int) -> bytes | Forward:
    reply = dns.message.make_response(query, recursion_available=True, our_payload=UDP_MOST)
    question = query.question[0]
    if query.edns > 0:
        reply.use_edns(0, payload=UDP_MOST)
        reply.set_rcode(dns.rcode.BADVERS)
    elif names is None:
        reply.set_rcode(dns.rcode.SERVFAIL)
    elif network is None or question.rdclass != dns.rdataclass.IN or question.rdtype in _TRANSFERS:
        reply.set_rcode(dns.rcode.REFUSED)
    else:
        try:
            _fill(reply, question.name, question.rdtype, names, network)
        except LookupError:
            if network.mode != "flat":
                return Forward(limit)
            reply.set_rcode(dns.rcode.REFUSED)  # it has no way outside, not even by questions for names
    return _to_wire(reply, limit)


def _fill(reply: dns.message.Message, name: dns.name.Name, kind: int, names: NameIndex, network: Network) -> None:
    """Put the answer into a message. Raises `LookupError` for a name outside."""
    records = _pointers(name, names, network) if _is_reverse(name) else _of_name(name, names, network)
    reply.flags |= dns.flags.AA
    if records is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    for rdtype, values in (records or {}).items():
        if values and kind in (rdtype, dns.rdatatype.ANY):
            first = reply.id % len(values)  # several endpoints with one name take turns
            turned = (values[first:] + values[:first])[:RECORDS_LIMIT]
            rdatas = [dns.rdata.from_text(dns.rdataclass.IN, rdtype, value) for value in turned]
            reply.answer.append(dns.rrset.from_rdata_list(name, TTL_S, rdatas))
    if not reply.answer:
        reply.authority.append(_authority(name))


def _of_name(name: dns.name.Name, names: NameIndex, network: Network) -> dict[int, list[str]] | None:
    text = name.canonicalize().to_text(omit_final_dot=True)
    addresses: Addresses | None = names.addresses(network, text)
    if addresses is None:
        return None
    pairs = ((dns.rdatatype.A, addresses.ipv4), (dns.rdatatype.AAAA, addresses.ipv6))
    return {kind: [str(address) for address in of_kind] for kind, of_kind in pairs}


def _is_reverse(name: dns.name.Name) -> bool:
    return name.is_subdomain(dns.reversename.ipv4_reverse_domain) or name.is_subdomain(dns.reversename.ipv6_reverse_domain)


def _pointers(name: dns.name.Name, names: NameIndex, network: Network) -> dict[int, list[str]] | None:
    try:
        address = ip_address(dns.reversename.to_address(name))
    except (dns.exception.DNSException, ValueError):
        raise LookupError(name) from None  # a part of an address, or something else
    target = names.name(network, address)
    return None if target is None else {dns.rdatatype.PTR: [f"{target}."]}


def _authority(name: dns.name.Name) -> dns.rrset.RRset:
    """The start of authority, which says how long the absence of a name or a record holds (RFC 2308)."""
    zone = name.parent() if len(name) > 2 else name
    return dns.rrset.from_text(zone, TTL_S, "IN", "SOA", f". . 1 {TTL_S} {TTL_S} {TTL_S} {TTL_S}")


def _to_wire(reply: dns.message.Message, limit: int) -> bytes:
    try:
        return bytes(reply.to_wire(max_size=limit, want_shuffle=False))
    except dns.exception.TooBig:
        reply.answer, reply.authority = [], []
        reply.flags |= dns.flags.TC
        return bytes(reply.to_wire(max_size=limit, want_shuffle=False))
