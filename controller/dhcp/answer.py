"""The one door: a frame that the switch has shown, the lease of the port that it came from, and what becomes of it."""

from __future__ import annotations

from controller.dhcp import router, v4, v6
from controller.dhcp.frames import ICMPV6, UDP, Answer, Ignored, read
from controller.dhcp.lease import Lease


def answer(frame: bytes, lease: Lease) -> Answer:
    """What to send back out of the port, if anything. Never raises: `frame` may be anything at all."""
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
        return Answer(why.asked, ignored=why.reason)
