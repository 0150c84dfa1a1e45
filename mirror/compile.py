"""Mirror sessions as flows and groups. Pure.

A packet passes COPY once for each session of its port, with the session's number and the direction in a register. COPY's group works on
the copy and leaves the packet unchanged. Copies leave the switch directly without passing another table, so a copy is never copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from acl.fields import ORDER, VLAN_PRESENT, value_of
from mirror.sessions import IN, OUT, MirrorSession
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
from pipeline.protocols import DOT1Q
from pipeline.tables import REG_COPY, Table
from pipeline.tunnels import to_vtep

CHOSEN, SENDER = 100, 110


def copies(numbers: tuple[int, ...]) -> Actions:
    """The actions that send a packet through COPY once for each session and direction; the packet itself does not change."""
    actions: list[Action] = []
    for number in numbers:
        actions += [Set(REG_COPY, number), Resubmit(Table.COPY)]
    return (*actions, Set(REG_COPY, 0)) if actions else ()


def session(s: MirrorSession, tunnel: int | None) -> Iterator[Flow | Group]:
    """COPY's flows and the group of one session."""
    origin = Origin("mirror", s.name)
    path = _path(s, tunnel)
    if path is None:
        return
    group = Group((Bucket(path),), origin)
    yield group
    for vni, mac in s.senders:
        yield Flow(Table.COPY, SENDER, match(reg4=s.number << 1 | OUT, reg0=vni, eth_src=mac), (), origin)
    for direction in (IN, OUT):
        for fields in dict.fromkeys(_matches(s)):
            yield Flow(Table.COPY, CHOSEN, match(reg4=s.number << 1 | direction) + fields, (ToGroup(group.group_id),), origin)


def arrival(s: MirrorSession) -> Actions:
    """The actions for copies that arrive from other hosts."""
    return (_output(s, s.port),) if s.port is not None else ()


def _path(s: MirrorSession, tunnel: int | None) -> Actions | None:
    tag: Actions = (PushVlan(DOT1Q), Set("vlan_vid", s.vlan | VLAN_PRESENT)) if s.vlan else ()
    if s.port is not None:
        return (*tag, _output(s, s.port))
    if s.vtep is not None and tunnel is not None:
        clear_in_port = Set("in_port_nxm", 0)  # otherwise a packet from the tunnel port could not leave by the tunnel port
        # the receiving host cuts it: Open vSwitch (3.1, userspace) loses packets that are cut before a tunnel
        return (*tag, Set("tunnel_id", s.vni), to_vtep(s.vtep), clear_in_port, Output(tunnel))
    return None


def _output(s: MirrorSession, port: int) -> Action:
    return Output(port) if s.snap is None else OutputTrunc(port, s.snap)


def _matches(s: MirrorSession) -> Iterator[Match]:
    for rule in s.rules:
        choices = [[(m.name, value_of(m.name, alternative)) for alternative in m.alternatives] for m in rule.fields]
        for variant in rule.variants:
            for chosen in product(*choices):
                yield tuple(sorted((*variant, *chosen), key=lambda item: ORDER.get(item[0], -1)))
