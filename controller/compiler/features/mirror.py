"""MIRROR and COPY: copies of what endpoints of mirror sessions receive, and the sessions themselves. CLASSIFY sends what
they send through COPY.

The switch's own answers (ARP, neighbour discovery, pings of a gateway) leave by the port that asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from intent.views import EndpointView
from mirror.compile import copies
from mirror.compile import session as compile_session
from mirror.sessions import IN, OUT, MirrorSession
from pipeline.flow import Flow, Goto, Group, Origin, match
from pipeline.tables import ORIGIN_ANSWER, Table

RECEIVED, ANSWER = 100, 110


def session(s: MirrorSession, tunnel: int | None) -> Iterator[Flow | Group]:
    """One session."""
    yield from compile_session(s, tunnel)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """Packets that leave by the port of an endpoint."""
    if e.ofport is not None and e.copies_out:
        origin, onward = Origin("endpoint", e.id), Goto(Table.OUTPUT)
        yield Flow(Table.MIRROR, RECEIVED, match(reg0=e.vni, reg2=e.ofport), (*copies(e.copies_out), onward), origin)
        # the switch's own replies were never seen on ingress; mirror them here with direction 'in'
        made = tuple(number & ~OUT | IN for number in e.copies_out)
        answer = match(reg0=e.vni, reg1=ORIGIN_ANSWER, in_port=e.ofport)
        yield Flow(Table.MIRROR, ANSWER, answer, (*copies(made), onward), origin)
