"""A coprocessor: a machine behind an interface (a network function, say) that sends frames out of ports of its choice.

FAUCET's strategy `vlan_vid`: a frame with the VLAN id `vlan_vid_base` + N leaves by OpenFlow port N, without that tag. Untagged frames
are forwarded like any others. A coprocessor receives only frames that rules of ACLs send to it, and answers to its own frames.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from specs.model.base import NestedValue, Whole

VLAN_VID_BASE = 1000  # FAUCET's default


class _Vid(NestedValue):
    strategy: Literal["vlan_vid"] = "vlan_vid"
    vlan_vid_base: Annotated[Whole, Field(ge=1, le=4093)] = VLAN_VID_BASE


def _default(value: Any) -> Any:
    """`true` stands for FAUCET's strategy with its default base."""
    return {} if value is True else value


Coprocessor = Annotated[_Vid, BeforeValidator(_default)]
