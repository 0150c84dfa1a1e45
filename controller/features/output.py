"""OUTPUT: the packet leaves by the port in the output register; port 0 is no port, so an unset register drops."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.flow import Flow, OutputReg, Ref, match
from pipeline.tables import REG_OUTPUT, Table


def base(tunnel: int | None) -> Iterator[Flow]:
    """Without this drop an unset register would mean port 0."""
    origin = Ref("pipeline", "output")
    yield Flow(Table.OUTPUT, 100, match(reg2=0), (), origin)
    yield Flow(Table.OUTPUT, 90, match(), (OutputReg(REG_OUTPUT),), origin)
