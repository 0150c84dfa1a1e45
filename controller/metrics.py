"""What Prometheus is told: under FAUCET's and Gauge's names where the meaning is the same, under `warren_` the rest.

`Own` counts what the controller does; `Polled` holds what the switch answered last, so that a scrape never asks a switch.
`docs/metrics.md` lists all; a test holds that it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

D = ("dp_id", "dp_name")
P = (*D, "port", "port_description")
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class Numbers(NamedTuple):
    """The counters of a port, as OFPPortStats has them."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int
    rx_errors: int
    tx_errors: int


class MeterNumbers(NamedTuple):
    """The counters of a meter and its band."""

    flow_count: int
    packet_in_count: int
    byte_in_count: int
    packet_band_count: int
    byte_band_count: int


class PortState(NamedTuple):
    """A port's name, its state bits, and its speeds in kb/s."""

    name: str
    state: int
    curr_speed: int
    max_speed: int


@dataclass(slots=True)
class Polled:
    """The last answers of one switch; `rules` are packets and bytes by ACL#NUMBER."""

    dpid: int = 0
    name: str = ""
    connected: bool = False
    ports: dict[int, Numbers] = field(default_factory=dict)
    states: dict[int, PortState] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    meters: dict[int, MeterNumbers] = field(default_factory=dict)
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)

    def line(self, at: float) -> str:
        """All of it as one line of JSON; `at` is Unix time."""
        return json.dumps({"time": round(at, 3), **asdict(self)}, separators=(",", ":"))


class Place(NamedTuple):
    """Whose port it is."""

    network: str
    endpoint: str


class Gauge:
    """A collector of what was polled. `places` tells whose the OpenFlow ports are."""

    def __init__(self, polled: Polled, places: Callable[[], Mapping[int, Place]]) -> None:
        self._polled, self._places = polled, places

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        p = self._polled
        dp = (f"{p.dpid:#x}", p.name)
        yield _one("dp_status", "Whether the switch is connected: 0 or 1", D, [(dp, int(p.connected))])
        places = self._places()
        labels = {number: (*dp, s.name, _described(s.name, places.get(number))) for number, s in p.states.items()}
        for position, name in enumerate(Numbers._fields):
            what = f"of_port_{name}"
            values = [(labels[number], n[position]) for number, n in p.ports.items() if number in labels]
            yield _one(what, f"{name.replace('_', ' ')} of a port, as the switch counts them", P, values)
        for name, text in (("state", "State bits of a port (OFPPS_*)"), ("curr_speed", "Speed of a port in kb/s"),
                           ("max_speed", "Highest speed of a port in kb/s")):  # fmt: skip
            yield _one(f"of_port_{name}", text, P, [(labels[number], getattr(s, name)) for number, s in p.states.items()])
        for position, name in enumerate(MeterNumbers._fields):
            metered = [((*dp, str(number)), m[position]) for number, m in sorted(p.meters.items())]
            yield _one(f"of_meter_{name}", f"{name.replace('_', ' ')} of a meter", (*D, "meter_id"), metered)
        counts_of = [((*dp, table), count) for table, count in p.tables.items()]
        yield _one("warren_table_flows", "Flows in a table", (*D, "table"), counts_of)
        for position, name in enumerate(("packets", "bytes")):
            hits = CounterMetricFamily(
                f"warren_acl_rule_{name}", f"{name} that met a rule, since its flows are in", labels=(*D, "acl", "rule")
            )
            for rule, counts in sorted(p.rules.items()):
                acl, _, number = rule.rpartition("#")
                hits.add_metric((*dp, acl, number), counts[position])
            yield hits
        for position, name in enumerate(("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")):
            found = [((*dp, *place), p.ports[n][position]) for n, place in places.items() if n in p.ports]
            text = f"{name.replace('_', ' ')} of an endpoint's port: rx is what it sent"
            yield _one(f"warren_endpoint_{name}", text, (*D, "network", "endpoint"), found)


def _described(name: str, place: Place | None) -> str:
    return f"{place.network}/{place.endpoint}" if place is not None else name


def _one(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for told, value in values:
        family.add_metric(told, value)
    return family


class Own:
    """What the controller does, for FAUCET's port. `state` gives the figures that are read when somebody asks."""

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self.registry = CollectorRegistry()
        self._state = state
        self.registry.register(self)  # type: ignore[arg-type]
        self.packet_ins = Counter("of_packet_ins", "Packets shown to the controller", D, registry=self.registry)
        self.errors = Counter("of_errors", "OpenFlow errors of the switch", D, registry=self.registry)
        self.flow_messages = Counter("of_flowmsgs_sent", "Flow messages sent", D, registry=self.registry)
        self.connections = Counter("of_dp_connections", "Connections of the switch", D, registry=self.registry)
        self.disconnections = Counter("of_dp_disconnections", "Connections of the switch that ended", D, registry=self.registry)
        self.bundle = Histogram(
            "warren_bundle_seconds", "From sending a bundle until the switch has committed it, seconds", D,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.change = Histogram(
            "warren_change_seconds", "From etcd's event until the switch has committed it, seconds", D,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        state = self._state()
        dp = (f"{state['dpid']:#x}", state["name"])
        for name, text, value in (
            ("dp_status", "Whether the switch is connected: 0 or 1", int(state["connected"])),
            ("warren_revision_seen", "etcd's revision that the controller has read", state["seen"]),
            ("warren_revision_applied", "etcd's revision that the switch has committed", state["applied"]),
            ("warren_flows", "Flows that the specs call for", state["flows"]),
            ("warren_flows_refused", "Flows that the switch has refused", state["refused"]),
            ("warren_drift", "Flows that read-backs found missing or too many", state["drift"]),
            ("warren_problems", "Specs that contradict or cannot be carried out", state["problems"]),
        ):
            yield _one(name, text, D, [(dp, value)])
        endpoints = [((*dp, which), count) for which, count in state["endpoints"].items()]
        yield _one("warren_endpoints", "Endpoints of this host by state", (*D, "state"), endpoints)
