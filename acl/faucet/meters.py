"""Reads the meters of a faucet.yaml. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from acl.faucet.schema import METER, check
from warren.errors import Invalid
from warren.yaml import List, Map

U32 = 0xFFFF_FFFF


class Limit(NamedTuple):
    """A rate in kb/s and a burst in kb; with `packets`, in packets/s and packets."""

    rate: int
    burst: int
    packets: bool


def read_limit(data: Any, file: str, path: str, line: int) -> Limit | str:
    """Return the limit of a meter, or the reason why Warren cannot have such a meter. Raises `Invalid` for what FAUCET refuses."""
    check(data, METER, file, path, line)
    for key in ("meter_id", "entry"):
        if data.get(key) is None:
            raise Invalid(f"{file}:{line}: {path}.{key}", None, "one (FAUCET ends without it)")
    entry = data["entry"]
    for key in ("flags", "bands"):
        if not entry.get(key):
            raise Invalid(f"{file}:{data.lines['entry']}: {path}.entry.{key}", entry.get(key), "at least one")
    flags = entry["flags"] if isinstance(entry["flags"], List) else [entry["flags"]]
    bands = entry["bands"]
    band = bands[0] if isinstance(bands, List) and len(bands) == 1 and isinstance(bands[0], Map) else Map()
    problem = _problem_of_flags(flags) or _problem_of_band(band)
    if problem is not None:
        return problem
    burst = band.get("burst_size", 0) if "BURST" in flags else 0  # a switch ignores the burst size without the flag
    return Limit(band.get("rate", 0), burst, "PKTPS" in flags)


def _problem_of_flags(flags: list[Any]) -> str | None:
    if any(flag not in ("KBPS", "PKTPS", "BURST", "STATS") for flag in flags):
        return "its flags are not all of KBPS, PKTPS, BURST, STATS"
    if ("KBPS" in flags) == ("PKTPS" in flags):
        return "its flags must have one of KBPS and PKTPS (a switch refuses it otherwise)"
    return None


def _problem_of_band(band: Map) -> str | None:
    if not band:
        return "it must have one band: Warren's meters do not have several"
    if band.get("type") != "DROP":
        return f"its band is {band.get('type')}: Warren's meters only drop"
    rate, burst = band.get("rate", 0), band.get("burst_size", 0)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (rate, burst)):
        return "its rate and its burst_size must be numbers"
    if not 1 <= rate <= U32 or not 0 <= burst <= U32:
        return f"its rate must be from 1 to {U32}, its burst_size from 0"
    return None
