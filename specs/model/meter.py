"""Meters. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specs.model.base import Flag, Item, Name, Record, Whole

METER_ID_FIRST, METER_ID_LAST = 1, 32_768
MeterId = Annotated[Whole, Field(ge=METER_ID_FIRST, le=METER_ID_LAST)]
MeterRate = Annotated[Whole, Field(ge=1, le=0xFFFF_FFFF)]
MeterBurst = Annotated[Whole, Field(ge=0, le=0xFFFF_FFFF)]


class Meter(Record):
    """A rate limit that rules name. `rate` is in kb/s (kb of `burst`), or in packets/s (packets) with `packets`."""

    name: Name
    meter_id: MeterId
    rate: MeterRate
    burst: MeterBurst = 0
    packets: Flag = False
    created_at: str | None = None


class MeterItem(Item):
    """A meter; without `meter_id` one is allocated."""

    name: Name
    meter_id: MeterId | None = None
    rate: MeterRate
    burst: MeterBurst = 0
    packets: Flag = False
