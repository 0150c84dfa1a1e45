"""Mirror sessions as flows and groups. Pure.

A packet meets COPY once for each session of its port, carrying the session's number and the direction; what COPY's group does to its copy
does not show in the packet. Copies go straight out: none is ever looked at again, so none is copied twice or returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from acl.fields import ORDER, VLAN_PRESENT, value_of
from pipeline.flow import (
    Action,
    Actions,
    Bucket,
    Flow,
    Group,
    Match,
    Origin,
    Output,
    OutputTrunc,
    PushVlan,
    Resubmit,
    Set,
    ToGroup,
    match,
)
from pipeline.tables import REG_COPY, Table
from specs.model.mirror import IN, OUT, Session

CHOSEN, SENDER = 100, 110


def copies(numbers: tuple[int, ...]) -> Actions:
    """The actions that show a packet to sessions (with their direction); the packet is as before."""
    found: list[Action] = []
    for number in numbers:
        found += [Set(REG_COPY, number), Resubmit(Table.COPY)]
    return (*found, Set(REG_COPY, 0)) if found else ()


def session(s: Session, tunnel: int | None) -> Iterator[Flow | Group]:
    """COPY's flows and the group of one session."""
    origin = Origin("mirror", s.name)
    way = _way(s, tunnel)
    if way is None:
        return
    group = Group((Bucket(way),), origin)
    yield group
    for vni, mac in s.senders:
        yield Flow(Table.COPY, SENDER, match(reg4=s.number << 1 | OUT, reg0=vni, eth_src=mac), (), origin)
    for direction in (IN, OUT):
        for wanted in dict.fromkeys(_matches(s)):
            yield Flow(Table.COPY, CHOSEN, match(reg4=s.number << 1 | direction) + wanted, (ToGroup(group.group_id),), origin)


def arrival(s: Session) -> Actions:
    """What becomes of copies that come from other hosts."""
    return (_output(s, s.port),) if s.port is not None else ()


def _way(s: Session, tunnel: int | None) -> Actions | None:
    tag: Actions = (PushVlan(0x8100), Set("vlan_vid", s.vlan | VLAN_PRESENT)) if s.vlan else ()
    if s.port is not None:
        return (*tag, _output(s, s.port))
    if s.vtep is not None and tunnel is not None:
        whence = Set("in_port_nxm", 0)  # else what came by the tunnel port would not leave by it
        # cut at its end: Open vSwitch (3.1, userspace) loses what is cut before it goes into a tunnel
        return (*tag, Set("tunnel_id", s.vni), Set("tun_ipv4_dst", s.vtep), whence, Output(tunnel))
    return None


def _output(s: Session, port: int) -> Action:
    return Output(port) if s.snap is None else OutputTrunc(port, s.snap)


def _matches(s: Session) -> Iterator[Match]:
    for rule in s.rules:
        choices = [[(m.name, value_of(m.name, alternative)) for alternative in m.alternatives] for m in rule.fields]
        for variant in rule.variants:
            for chosen in product(*choices):
                yield tuple(sorted((*variant, *chosen), key=lambda item: ORDER.get(item[0], -1)))
