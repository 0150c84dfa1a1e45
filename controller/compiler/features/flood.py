"""FLOOD: copies broadcast and multicast to members only, on the host where they begin (head-end replication)."""

from __future__ import annotations

from collections.abc import Iterator

from controller.compiler.features.forward import copied, replicate
from intent.views import NetworkView
from pipeline.flow import Flow, Group, Origin, match
from pipeline.tables import ORIGIN_LOCAL, ORIGIN_TUNNEL, Table


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow | Group]:
    """Packets that began here go to local ports and to VTEPs; packets from a tunnel go to local ports only."""
    if not n.ports:
        return
    origin = Origin("network", n.id)
    local, remote = replicate(n, n.ports, n.vteps, tunnel, origin)
    yield from local
    yield from remote
    for entered, groups in ((ORIGIN_LOCAL, local + remote), (ORIGIN_TUNNEL, local)):
        yield Flow(Table.FLOOD, 100, match(reg0=n.vni, reg1=entered), copied(groups), origin)
