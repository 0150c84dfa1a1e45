"""ICMP errors of a gateway, decoded by Ryu's packet library, which is independent of the code."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.openflow.icmp import time_exceeded, too_big
from specs.model.router import Route
from tests.ryu_packets import ethernet, icmp, icmpv6, ipv4, ipv6, packet, udp

HERE, GATEWAY_MAC = "02:57:0a:00:00:02", "02:57:00:00:00:01"
GATEWAY4, GATEWAY6 = ip_address("10.0.0.1"), ip_address("fd00::1")


def frame(*layers: Any, eth_type: int = 0x0800) -> bytes:
    made = packet.Packet()
    for layer in (ethernet.ethernet(GATEWAY_MAC, HERE, eth_type), *layers):
        made.add_protocol(layer)
    made.serialize()
    return bytes(made.data)


IN4 = {"src": "10.0.0.2", "dst": "10.1.0.2", "ttl": 1}
IN6 = {"src": "fd00::2", "dst": "fd00:1::2", "hop_limit": 1}


def test_time_exceeded_holds_the_packet() -> None:
    sent = frame(ipv4.ipv4(proto=17, **IN4), udp.udp(1234, 33434), b"x" * 600)
    received = packet.Packet(time_exceeded(sent[:576], GATEWAY4))
    link, network, error = received.protocols[:3]
    assert (link.src, link.dst, network.src, network.dst) == (GATEWAY_MAC, HERE, "10.0.0.1", "10.0.0.2")
    assert (error.type, error.code, network.total_length) == (11, 0, 576)
    assert error.data.data == sent[14 : 14 + 548]
    checked = packet.Packet(received.data)
    csums = checked.protocols[1].csum, checked.protocols[2].csum
    again = frame(network, icmp.icmp(11, 0, 0, error.data))
    assert (packet.Packet(again).protocols[1].csum, packet.Packet(again).protocols[2].csum) == csums


def test_icmpv6_time_exceeded_holds_the_packet() -> None:
    sent = frame(ipv6.ipv6(nxt=17, **IN6), udp.udp(1234, 33434), b"y" * 2000, eth_type=0x86DD)
    received = packet.Packet(time_exceeded(sent[:1280], GATEWAY6))
    link, network, error = received.protocols[:3]
    assert (link.src, link.dst, network.src, network.dst) == (GATEWAY_MAC, HERE, "fd00::1", "fd00::2")
    assert (error.type_, error.code, network.payload_length) == (3, 0, 1240)
    again = packet.Packet(frame(network, icmpv6.icmpv6(3, 0, 0, error.data), eth_type=0x86DD))
    assert again.protocols[2].csum == error.csum


@pytest.mark.parametrize(
    "layers",
    [
        (ipv4.ipv4(proto=1, **IN4), icmp.icmp(3, 1, 0, icmp.dest_unreach(data=b"z" * 28))),
        (ipv4.ipv4(proto=1, **IN4), icmp.icmp(11, 0, 0, icmp.TimeExceeded(data=b"z" * 28))),
        (ipv4.ipv4(proto=17, offset=100, **IN4), b"later fragment"),
    ],
    ids=("unreachable", "time exceeded", "fragment"),
)
def test_no_error_about_an_error_or_a_later_fragment(layers: tuple[Any, ...]) -> None:
    assert time_exceeded(frame(*layers), GATEWAY4) is None


def test_no_error_about_an_error_over_ipv6() -> None:
    error = icmpv6.icmpv6(1, 0, 0, b"z" * 48)
    assert time_exceeded(frame(ipv6.ipv6(nxt=58, **IN6), error, eth_type=0x86DD), GATEWAY6) is None


def test_an_echo_request_is_no_error_and_gets_one() -> None:
    """So `ping -t 1` and `tracepath` see the gateway. Echo request is the lowest ICMPv6 type that is information (RFC 4443, 2.1)."""
    request = frame(ipv4.ipv4(proto=1, **IN4), icmp.icmp(8, 0, 0, icmp.echo(1, 2, b"z" * 28)))
    received = packet.Packet(time_exceeded(request, GATEWAY4))
    assert (received.protocols[2].type, received.protocols[2].data.data) == (11, request[14:])
    request6 = frame(ipv6.ipv6(nxt=58, **IN6), icmpv6.icmpv6(128, 0, 0, icmpv6.echo(1, 2, b"z" * 28)), eth_type=0x86DD)
    told6 = packet.Packet(time_exceeded(request6, GATEWAY6))
    assert told6.protocols[2].type_ == 3
    assert bytes(told6.data).endswith(request6[14:])


@given(st.binary(max_size=100), st.sampled_from((GATEWAY4, GATEWAY6)), st.sampled_from((b"\x08\x00\x45", b"\x86\xdd\x60")))
def test_any_bytes_are_answered_or_ignored(data: bytes, gateway: Any, start: bytes) -> None:
    time_exceeded(bytes(12) + start + data, gateway)


ROUTES = (
    Route("core", 9, 0, ("10.1.0.0/24", "fd00:1::/64"), ("10.1.0.1", "fd00:1::1"), mtu=1300),
    Route("core", 8, 0, ("10.2.0.0/24", "fd00:2::/64"), ("10.2.0.1", "fd00:2::1")),
)


@pytest.mark.parametrize("flags", [2, 0])  # whether the sender forbids fragments
def test_fragmentation_needed_holds_the_mtu(flags: int) -> None:
    sent = frame(ipv4.ipv4(proto=17, flags=flags, **{**IN4, "ttl": 64}), udp.udp(1234, 33434), b"x" * 1400)
    received = packet.Packet(too_big(sent[:576], GATEWAY4, ROUTES))
    link, network, error = received.protocols[:3]
    assert (link.src, link.dst, network.src, network.dst) == (GATEWAY_MAC, HERE, "10.0.0.1", "10.0.0.2")
    assert (error.type, error.code, error.data.mtu, network.total_length) == (3, 4, 1300, 576)
    assert error.data.data == sent[14 : 14 + 548]
    again = frame(network, icmp.icmp(3, 4, 0, error.data))
    assert packet.Packet(again).protocols[2].csum == error.csum


def test_packet_too_big_holds_the_mtu() -> None:
    sent = frame(ipv6.ipv6(nxt=17, **{**IN6, "hop_limit": 64}), udp.udp(1234, 33434), b"y" * 1400, eth_type=0x86DD)
    received = too_big(sent[:1280], GATEWAY6, ROUTES)
    assert received is not None
    _, network, error = packet.Packet(received).protocols[:3]
    assert (network.src, network.dst, network.payload_length) == ("fd00::1", "fd00::2", 1240)
    assert (error.type_, error.code, received[14 + 40 + 4 : 14 + 40 + 8]) == (2, 0, (1300).to_bytes(4, "big"))
    assert received[14 + 40 + 8 :] == sent[14 : 14 + 1232]
    again = packet.Packet(frame(network, icmpv6.icmpv6(2, 0, 0, received[14 + 44 :]), eth_type=0x86DD))
    assert again.protocols[2].csum == error.csum


def test_no_error_about_a_network_without_an_mtu_limit_or_a_route_that_is_gone() -> None:
    for target in ("10.2.0.2", "10.3.0.2"):
        sent = frame(ipv4.ipv4(proto=17, src="10.0.0.2", dst=target), udp.udp(1234, 33434), b"x" * 1400)
        assert too_big(sent[:576], GATEWAY4, ROUTES) is None


@given(st.binary(max_size=80), st.sampled_from([b"\x08\x00", b"\x86\xdd"]))
def test_any_too_large_packet_is_answered_or_ignored(data: bytes, eth_type: bytes) -> None:
    too_big(bytes(12) + eth_type + data, GATEWAY4 if eth_type == b"\x08\x00" else GATEWAY6, ROUTES)
