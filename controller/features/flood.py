"""FLOOD: broadcast and multicast, copied at the host where they begin (head-end replication) to members only.

Each copy is a bucket of a group, so that what is done to one does not show in the next. OVS never sends a copy back
out of the port that the packet came in by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.features.forward import receives
from pipeline.flow import Bucket, Flow, Group, Ref, Resubmit, Set, ToGroup, match
from pipeline.tables import GROUP_BUCKETS, ORIGIN_LOCAL, ORIGIN_TUNNEL, REG_OUTPUT, Table, at
from specs.view import NetworkView


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow | Group]:
    """Packets that began here go to local ports and to the VTEPs, packets from a tunnel to local ports only."""
    origin = Ref("network", n.id)
    deliver = Resubmit(at(Table.ACL_OUT))
    local = list(_groups((Bucket((*receives(n.policy_out), Set(REG_OUTPUT, port), deliver)) for port in n.ports), origin))
    remote: list[Group] = []
    if tunnel is not None:
        away = (Set("tunnel_id", n.vni), Set(REG_OUTPUT, tunnel))
        remote = list(_groups((Bucket((Set("tun_ipv4_dst", v), *away, deliver)) for v in n.vteps), origin))
    yield from local
    yield from remote
    for entered, groups in ((ORIGIN_LOCAL, local + remote), (ORIGIN_TUNNEL, local)):
        actions = tuple(ToGroup(group.group_id) for group in groups)
        yield Flow(Table.FLOOD, 100, match(reg0=n.vni, reg1=entered), actions, origin)


def _groups(buckets: Iterable[Bucket], origin: Ref) -> Iterator[Group]:
    every = tuple(buckets)
    for start in range(0, len(every), GROUP_BUCKETS):
        yield Group(every[start : start + GROUP_BUCKETS], origin)
