"""MIRROR and COPY: what endpoints of mirror sessions receive, and the sessions themselves. What they send is shown to COPY by CLASSIFY.

Answers that this switch makes itself (ARP, neighbour discovery, pings of a gateway) leave by the port that asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from intent.views import EndpointView
from mirror.compile import copies
from mirror.compile import session as compile_session
from pipeline.flow import Flow, Goto, Group, Origin, match
from pipeline.tables import ORIGIN_ANSWER, Table
from specs.model.mirror import IN, OUT, Session

RECEIVED, ANSWER = 100, 110


def session(s: Session, tunnel: int | None) -> Iterator[Flow | Group]:
    """One session."""
    yield from compile_session(s, tunnel)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """What leaves by the port of an endpoint."""
    if e.ofport is not None and e.copies_out:
        origin, onward = Origin("endpoint", e.id), Goto(Table.OUTPUT)
        yield Flow(Table.MIRROR, RECEIVED, match(reg0=e.vni, reg2=e.ofport), (*copies(e.copies_out), onward), origin)
        # in whose name it answers has not sent it: it was copied nowhere yet, as if it began here
        made = tuple(number & ~OUT | IN for number in e.copies_out)
        answer = match(reg0=e.vni, reg1=ORIGIN_ANSWER, in_port=e.ofport)
        yield Flow(Table.MIRROR, ANSWER, answer, (*copies(made), onward), origin)
