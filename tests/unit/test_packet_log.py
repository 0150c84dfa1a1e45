"""Log lines of `log: true` rules: their text, and their rate limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.openflow.packet_log import BURST, RATE, Limiter, describe

MACS = bytes.fromhex("02570a00000302570a000002")
TCP = bytes.fromhex("4500002800010000400600000a0000020a000003") + (1234).to_bytes(2, "big") + (443).to_bytes(2, "big") + bytes(16)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (MACS + b"\x08\x00" + TCP, "tcp 10.0.0.2:1234 > 10.0.0.3:443"),
        (MACS + b"\x81\x00\x00\x64\x08\x00" + TCP, "vlan 100 tcp 10.0.0.2:1234 > 10.0.0.3:443"),
        (MACS + b"\x08\x00" + TCP[:6] + b"\x00\x09" + TCP[8:], "tcp 10.0.0.2 > 10.0.0.3"),
        (MACS + b"\x08\x00" + TCP[:18], "a truncated packet of type 0x0800"),
        (MACS + b"\x08\x06" + bytes(14) + bytes([10, 0, 0, 2]) + bytes(6) + bytes([10, 0, 0, 9]), "arp 10.0.0.2 > 10.0.0.9"),
        (MACS + b"\x88\xcc\x00", "0x88cc 02:57:0a:00:00:02 > 02:57:0a:00:00:03"),
        (b"short", "5 bytes"),
    ],
)
def test_a_packet_is_described_in_one_line(frame: bytes, text: str) -> None:
    assert describe(frame) == text


@given(st.binary(max_size=200))
def test_any_frame_is_described_in_one_line(frame: bytes) -> None:
    assert "\n" not in describe(frame)


def test_log_lines_of_a_flood_are_limited_and_dropped_ones_counted() -> None:
    limiter = Limiter()
    passed = [limiter.allow("web#1", now=second / 1000) for second in range(10_000)]
    lines = [left_out for left_out in passed if left_out is not None]
    assert BURST + 9 * RATE <= len(lines) <= BURST + 10 * RATE + 1
    assert sum(lines) + len(lines) >= 9_900
    assert limiter.allow("db#1", now=10.0) == 0


def test_a_long_silence_saves_up_no_more_than_a_burst() -> None:
    limiter = Limiter()
    assert limiter.allow("web#1", now=0.0) == 0
    passed = [limiter.allow("web#1", now=86_400.0) for _ in range(1000)]
    assert sum(left_out is not None for left_out in passed) == BURST
