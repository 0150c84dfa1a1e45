"""MIRROR and COPY: what endpoints of mirror sessions receive, and the sessions themselves. What they send is shown to COPY by CLASSIFY.

Answers that this switch makes itself (ARP, neighbour discovery, pings of a gateway) are not copied where they are received.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.compile import copies
from mirror.compile import session as compile_session
from pipeline.flow import Flow, Goto, Group, Ref, match
from pipeline.tables import Table, at
from specs.mirrors import Session
from specs.view import EndpointView


def session(s: Session, tunnel: int | None) -> Iterator[Flow | Group]:
    """One session."""
    yield from compile_session(s, tunnel)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """What leaves by the port of an endpoint."""
    if e.ofport is not None and e.copies_out:
        actions = (*copies(e.copies_out), Goto(at(Table.OUTPUT)))
        yield Flow(Table.MIRROR, 100, match(reg0=e.vni, reg2=e.ofport), actions, Ref("endpoint", e.id))
