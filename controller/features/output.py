"""OUTPUT: the packet leaves by the port in the output register; port 0 is no port, so an unset register drops."""

from __future__ import annotations

from collections.abc import Iterator

from controller.features.spoof import IPV4, IPV6
from pipeline.flow import Flow, OutputReg, Ref, Value, match
from pipeline.tables import REG_OUTPUT, Table
from specs.view import NetworkView


def base(tunnel: int | None) -> Iterator[Flow]:
    """Without this drop an unset register would mean port 0."""
    origin = Ref("pipeline", "output")
    yield Flow(Table.OUTPUT, 100, match(reg2=0), (), origin)
    yield Flow(Table.OUTPUT, 90, match(), (OutputReg(REG_OUTPUT),), origin)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """A network in mode nat shows the outside its transit addresses and nothing else."""
    g = n.gateway
    if g is None or g.uplink is None or not g.nat:
        return
    origin = Ref("network", n.id)
    for eth_type, name, transit in ((IPV4, "ipv4_src", g.transit4), (IPV6, "ipv6_src", g.transit6)):
        if transit is not None:
            shown: dict[str, Value] = {"eth_type": eth_type, name: str(transit)}
            yield Flow(Table.OUTPUT, 120, match(reg0=n.vni, reg2=g.uplink, **shown), (OutputReg(REG_OUTPUT),), origin)
    yield Flow(Table.OUTPUT, 110, match(reg0=n.vni, reg2=g.uplink), (), origin)
