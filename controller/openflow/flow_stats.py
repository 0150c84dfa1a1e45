"""Decodes flow statistics: the cookies at a resync, the counters for the gauge."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from controller.framework.protocol import ofproto_v1_4_parser


class FlowCounters(NamedTuple):
    """What a flow has counted."""

    cookie: int
    duration_s: float
    packets: int
    octets: int


class FlowStats(NamedTuple):
    """The cookies of all flows in one message of flow statistics. Nothing else of them is decoded before `counters` is called: a resync
    reads every flow, and Ryu takes 30 us for each."""

    length: int
    cookies: list[int]
    entries: bytes

    @classmethod
    def parser(cls, buffer: bytes, offset: int) -> FlowStats:
        """What Ryu's multipart decoder calls at the first entry: takes all entries up to the end (OpenFlow 1.4, 7.3.5.2). Raises
        `ValueError` for an entry that is shorter than its fixed part."""
        cookies, position, end = [], offset, len(buffer)
        while position < end:
            length, cookie = _FLOW_STATS.unpack_from(buffer, position)
            if length < FLOW_STATS_BYTES:
                raise ValueError(f"flow statistics of {length} bytes")
            cookies.append(cookie)
            position += length
        return cls(end - offset, cookies, buffer[offset:])

    def counters(self) -> Iterator[FlowCounters]:
        """Yield the counters of each flow."""
        position = 0
        for _ in self.cookies:
            length, seconds, nanoseconds, cookie, packets, octets = _FLOW_COUNTERS.unpack_from(self.entries, position)
            yield FlowCounters(cookie, seconds + nanoseconds / 1e9, packets, octets)
            position += length


FLOW_STATS_BYTES = 56  # the fixed part, with the header of the match
_FLOW_STATS = struct.Struct("!H22xQ")
_FLOW_COUNTERS = struct.Struct("!HxxII12xQQQ")


def read_cookies_only() -> None:
    """Make Ryu's decoder of flow statistics return `FlowStats` (for the whole process)."""
    ofproto_v1_4_parser.OFPFlowStatsReply.cls_stats_body_cls = FlowStats
