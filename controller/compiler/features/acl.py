"""ACL_IN and ACL_OUT: what a port may send and receive, by the policy number in the packet's metadata. Packets without a
policy pass.

Replies of a connection that an `allow_related` rule let begin, and the ICMP errors about it, pass both tables whatever their
rules say (RFC 5508, 4 names the errors).
"""

from __future__ import annotations

from collections.abc import Iterator

from acl.compile import CLOSED, REPLIES, compile_policy, meters
from acl.fragments import headless
from acl.policy import PolicyView
from pipeline.flow import Flow, Goto, Origin, SwitchMeter, match
from pipeline.tables import CT_ESTABLISHED, CT_INVALID, CT_RELATED, CT_REPLY, CT_TRACKED, MARK_RELATED, Table, after

HEADLESS = CLOSED + 100
WHERE = {"in": Table.ACL_IN, "out": Table.ACL_OUT}


def base(tunnel: int | None) -> Iterator[Flow]:
    """First fragments that do not show what rules ask for, which no policy decides over; replies and errors of marked connections."""
    for fields in headless():
        yield Flow(Table.ACL_IN, HEADLESS, fields, (), Origin("pipeline", "fragments"))
    for table in WHERE.values():
        for bits in (CT_TRACKED | CT_ESTABLISHED | CT_REPLY, CT_TRACKED | CT_RELATED):
            state = match(ct_state=(bits, bits | CT_INVALID), ct_mark=MARK_RELATED)
            yield Flow(table, REPLIES, state, (Goto(after(table)),), Origin("pipeline", "related"))


def policy(p: PolicyView) -> Iterator[Flow | SwitchMeter]:
    """The rules of one policy, and the meters that they name."""
    table = WHERE[p.key.direction]
    yield from meters(p)
    yield from compile_policy(p, table, after(table))
