"""Which machine a process runs on, and whether another one is the same host already. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine: its id (machine-id(5)), which a clone may share; the id of its boot; its VTEP. A process that starts again has the same
    three."""

    id: str
    boot: str
    vtep: str

    def data(self) -> dict[str, str]:
        """The machine as JSON data."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return f"machine {self.id or 'without an id'}" + (f" with VTEP {self.vtep}" if self.vtep else "")


def contender(machine: Machine, report: Mapping[str, Any] | None) -> Machine | None:
    """Return the other machine that a living process has reported this host's status from; None if it is this machine or unknown."""
    data = (report or {}).get("machine")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in ("id", "boot", "vtep")):
        return None
    other = Machine(id=data["id"], boot=data["boot"], vtep=data["vtep"])
    return other if other != machine else None


def refusal(name: str, process: str, machine: Machine, other: Machine) -> str:
    """Return why this machine is not the host, with the remedy."""
    return (
        f"host {name} is {other}, whose {process} lives; this is {machine}: give this machine a WARREN_HOST of its own, or stop "
        f"the {process} there first"
    )
