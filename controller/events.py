"""Events of the reconciler and its effects: values, each with the session of the switch connection where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from pipeline.flow import Group, Origin, SwitchMeter
from specs.lineage import StoreOrigin


class Phase(Enum):
    """The phase of the switch connection."""

    DOWN = "down"
    READING = "reading"
    READY = "ready"
    COMMITTING = "committing"


# ---- events ---------------------------------------------------------------------------------------------------------


class KeyState(NamedTuple):
    """A key of the store; value None: deleted."""

    key: str
    value: str | None
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class StoreRead:
    """A full read of what concerns this host at a revision, and the endpoints that this host has reported on before. `origin` says where
    it comes from, `known` what the process acted on before; without an origin the read is taken as it is. `followed` are the
    networks whose endpoints were read (None: all), `placements` the hosts of endpoints that may be of others, by id."""

    entries: tuple[KeyState, ...]
    revision: int
    reported: tuple[str, ...] = ()
    origin: StoreOrigin | None = None
    known: StoreOrigin | None = None
    followed: frozenset[str] | None = None
    placements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreChanged:
    """Changes up to a revision, and the networks whose endpoints are read from now on. `at` is when they came from etcd (seconds of
    the monotonic clock)."""

    entries: tuple[KeyState, ...]
    revision: int
    followed: frozenset[str] | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreLeft:
    """Networks whose endpoints are not read any more, because they do not concern this host."""

    networks: frozenset[str]


@dataclass(frozen=True, slots=True)
class PortsRead:
    """All endpoint ports of the switch (endpoint id -> OpenFlow port), the tunnel port and the port to the host; and what else OVSDB
    tells."""

    ports: dict[str, int]
    tunnel: int | None
    uplink: int | None = None
    interfaces: Mapping[str, int] = field(default_factory=dict)  # targets of mirror sessions: name -> OpenFlow port
    encrypted: frozenset[str] = frozenset()  # hosts of other sites to which the tunnel's encryption is up


@dataclass(frozen=True, slots=True)
class Connected:
    """A switch connection begins."""

    session: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone."""

    session: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the switch holds: the cookies of all flows, the ids of all groups, the meters."""

    session: int
    cookies: frozenset[int]
    groups: frozenset[int]
    meters: frozenset[SwitchMeter] = frozenset()


@dataclass(frozen=True, slots=True)
class Committed:
    """The bundle in flight is committed."""

    session: int


@dataclass(frozen=True, slots=True)
class BundleRefused:
    """The switch refused the bundle in flight as a whole; `cookies` are the flows at fault, which are left out from now on."""

    session: int
    cookies: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Time to compare with the switch again."""


Event = StoreRead | StoreChanged | StoreLeft | PortsRead | Connected | Disconnected | ReadBack | Committed | BundleRefused | Audit

# ---- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskReadBack:
    """Ask the switch for its flows and groups."""

    session: int


class PlannedFlow(NamedTuple):
    """A flow that a plan adds. It is packed into its message as soon as it is compiled: fifty thousand flows as Python objects take
    50 MB, which the process would keep. `arrival` is what a host's members hear when the flow is in (announcements.py)."""

    cookie: int
    origin: Origin
    arrival: str | int | None
    message: Any


@dataclass(frozen=True, slots=True)
class Commit:
    """Send the meters, which cannot be in a bundle, and then one atomic bundle: groups+, flows+, flows-, groups-."""

    session: int
    groups: tuple[Group, ...]
    flows: tuple[PlannedFlow, ...]
    deletes: tuple[int, ...]
    group_deletes: tuple[int, ...]
    meters: tuple[SwitchMeter, ...] = ()  # new ones
    meter_changes: tuple[SwitchMeter, ...] = ()
    meter_deletes: tuple[int, ...] = ()  # not sent with this: `DropMeters` follows once the flows are gone

    def __bool__(self) -> bool:
        meters = self.meters or self.meter_changes or self.meter_deletes
        return bool(self.groups or self.flows or self.deletes or self.group_deletes or meters)


@dataclass(frozen=True, slots=True)
class DropMeters:
    """Delete meters that no flow uses any more."""

    session: int
    meter_ids: tuple[int, ...]


class EndpointState(NamedTuple):
    """The report on a local endpoint; state None: the endpoint is gone, and so is its report."""

    id: str
    state: str | None
    reason: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the store the applied revision and the states of the touched local endpoints."""

    revision: int
    endpoints: tuple[EndpointState, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours of these endpoints where they are now."""

    endpoint_ids: tuple[str, ...]


Effect = AskReadBack | Commit | DropMeters | Report | Announce
