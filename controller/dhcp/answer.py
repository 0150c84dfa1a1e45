"""Answers a frame that the switch has sent to the controller, from the lease of its port."""

from __future__ import annotations

from controller.dhcp import router, v4, v6
from controller.dhcp.frames import Answer, Ignored, read
from controller.dhcp.lease import DhcpLease
from pipeline.protocols import ICMPV6, UDP


def answer(frame: bytes, lease: DhcpLease) -> Answer:
    """The frame to send back by the port, if any. Never raises, whatever `frame` is."""
    try:
        packet = read(frame)
        if packet.protocol == ICMPV6:
            return router.answer(packet, lease)
        if packet.protocol == UDP and (packet.source.version, packet.port) == (4, v4.SERVER):
            return v4.answer(packet, lease)
        if packet.protocol == UDP and (packet.source.version, packet.port) == (6, v6.SERVER):
            return v6.answer(packet, lease)
        raise Ignored("malformed")
    except Ignored as why:
        return Answer(why.question, ignored=why.reason)
