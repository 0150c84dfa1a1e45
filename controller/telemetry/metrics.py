"""Prometheus metrics: under FAUCET's and Gauge's names where the meaning is the same, the others under `warren_`.

`ControllerMetrics` counts what the controller does; `Gauge` and `Faucet` show what the switch answered last
(controller/telemetry/switch_stats.py). docs/metrics.md lists all of them, which a test checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controller.telemetry.switch_stats import Description, MeterNumbers, Numbers, Place, Polled, PortState
from pipeline.tables import METER_LAST, PORT_METER_FIRST
from specs.model.tenant import DEFAULT

D = ("dp_id", "dp_name")
P = (*D, "port", "port_description")
N = ("network", "tenant")
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
FAUCET_SECONDS = (0.0001, 0.001, 0.01, 0.1, 1.0)
UNITS = {"packets": "packets", "bytes": "bytes", "dropped": "packets dropped", "errors": "errors"}
LabelledTotals = Mapping[tuple[str, ...], tuple[int, ...]]
Places = Callable[[], Mapping[int, Place]]


class Gauge:
    """Gauge's metrics, and Warren's that come from the switch. `places` returns whose the OpenFlow ports are, `tenants` whose the networks are, by
    name; `pause` is called between metrics, so that the controller works on during a long scrape."""

    def __init__(
        self,
        polled: Polled,
        places: Places,
        tenants: Callable[[], Mapping[str, str]] = dict,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._polled, self._places, self._tenants, self._pause = polled, places, tenants, pause

    def collect(self) -> Iterator[Metric]:
        """The interface of prometheus_client."""
        p = self._polled
        dp = (f"{p.dpid:#x}", p.name)
        yield _one("dp_status", "Whether the switch is connected: 0 or 1", D, [(dp, int(p.connected))])
        ports, states, places, tenants = p.ports, p.states, self._places(), self._tenants()
        for family in _ports(dp, ports, states, places):
            yield family
            self._pause()
        for position, name in enumerate(MeterNumbers._fields):
            metered = [((*dp, str(number)), m[position]) for number, m in sorted(p.meters.items()) if number <= METER_LAST]
            yield _one(f"of_meter_{name}", f"{name.replace('_', ' ')} of a meter", (*D, "meter_id"), metered)
        limited = [
            ((*dp, *places[number - PORT_METER_FIRST]), m.packet_band_count)
            for number, m in p.meters.items()
            if number - PORT_METER_FIRST in places
        ]
        text = "DHCP packets and router solicitations of an endpoint that its meter dropped"
        yield _one("warren_dhcp_limited_packets", text, (*D, *Place._fields), limited)
        counts_of = [((*dp, table), count) for table, count in p.tables.items()]
        yield _one("warren_table_flows", "Flows in a table", (*D, "table"), counts_of)
        rules: LabelledTotals = {tuple(rule.rpartition("#")[::2]): counts for rule, counts in p.rules.items()}
        yield from _totals("warren_acl_rule", "that matched a rule", dp, ("acl", "rule"), rules)
        drops: LabelledTotals = {(table,): counts for table, counts in p.drops.items()}
        yield from _totals("warren_dropped", "dropped by a flow of a table", dp, ("table",), drops)
        spoofed: LabelledTotals = {
            (*(place := text.rsplit("/", 1)), tenants.get(place[0], DEFAULT)): counts for text, counts in p.spoofed.items()
        }
        text = "that an endpoint sent from an address or a MAC that it may not have"
        yield from _totals("warren_spoofed", text, dp, Place._fields, spoofed)
        groups: LabelledTotals = {tuple(origin.split("/", 1)): counts for origin, counts in p.groups.items()}
        yield from _totals("warren_group", "copied by groups: floods of networks, mirror sessions", dp, ("kind", "name"), groups)
        networks: LabelledTotals = {(name, tenants.get(name, DEFAULT)): counts for name, counts in p.networks.items()}
        sides = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
        yield from _totals(
            "warren_network", "of a network's endpoints on this host: rx is what they sent", dp, N, networks, sides
        )
        for position, name in enumerate(sides):
            values = [((*dp, *place), ports[n][position]) for n, place in places.items() if n in ports]
            text = f"{name.replace('_', ' ')} of an endpoint's port: rx is what it sent"
            yield _one(f"warren_endpoint_{name}", text, (*D, *Place._fields), values)
            self._pause()


class Faucet:
    """FAUCET's metrics that come from the switch."""

    def __init__(self, polled: Polled, places: Places) -> None:
        self._polled, self._places = polled, places

    def collect(self) -> Iterator[Metric]:
        """The interface of prometheus_client."""
        p = self._polled
        dp = (f"{p.dpid:#x}", p.name)
        labels = _labels(dp, p.states, self._places())
        yield _one("port_status", "Whether a port is up: 0 or 1", P, [(labels[n], int(s.up)) for n, s in p.states.items()])
        described = [((*dp, *p.description), p.dpid)] if p.description is not None else []
        text = "Description of the switch; the value is the datapath's id"
        yield _one("of_dp_desc_stats", text, (*D, *Description._fields), described)


def _ports(
    dp: tuple[str, str], ports: Mapping[int, Numbers], states: Mapping[int, PortState], places: Mapping[int, Place]
) -> Iterator[Metric]:
    labels = _labels(dp, states, places)
    for position, name in enumerate(Numbers._fields):
        way, _, what = name.partition("_")
        values = [(labels[number], n[position]) for number, n in ports.items() if number in labels]
        yield _one(f"of_port_{name}", f"{way} {UNITS[what]} of a port, as the switch counts them", P, values)
    for name, text in (
        ("reason", "Reason of the switch's last port status message: 0 added, 1 deleted, 2 modified"),
        ("state", "State bits of a port (OFPPS_*): 1 link down, 2 blocked, 4 live"),
        ("curr_speed", "Speed of a port in kb/s"),
        ("max_speed", "Highest speed of a port in kb/s"),
    ):
        yield _one(f"of_port_{name}", text, P, [(labels[number], getattr(s, name)) for number, s in states.items()])


def _labels(
    dp: tuple[str, str], states: Mapping[int, PortState], places: Mapping[int, Place]
) -> dict[int, tuple[str, str, str, str]]:
    return {number: (*dp, s.name, _described(s.name, places.get(number))) for number, s in states.items()}


def _described(name: str, place: Place | None) -> str:
    return f"{place.network}/{place.endpoint}" if place is not None else name


def _one(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _totals(
    name: str, text: str, dp: tuple[str, str], labels: tuple[str, ...], totals: LabelledTotals,
    what: tuple[str, ...] = ("packets", "bytes"),
) -> Iterator[Metric]:  # fmt: skip
    for position, counted in enumerate(what):
        family = CounterMetricFamily(f"{name}_{counted}", f"{counted.replace('_', ' ')} {text}", labels=(*D, *labels))
        for label_values, counts in sorted(totals.items()):
            family.add_metric((*dp, *label_values), counts[position])
        yield family


class ControllerMetrics:
    """The controller's own figures, for FAUCET's port. `state` returns those that are read at a scrape."""

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self.registry = CollectorRegistry()
        self._state = state
        self.registry.register(self)  # type: ignore[arg-type]
        self.packet_ins = Counter("of_packet_ins", "Packets sent to the controller", D, registry=self.registry)
        self.errors = Counter("of_errors", "OpenFlow errors of the switch", D, registry=self.registry)
        self.flow_messages = Counter("of_flowmsgs_sent", "Flow messages sent", D, registry=self.registry)
        self.connections = Counter("of_dp_connections", "Connections of the switch", D, registry=self.registry)
        self.disconnections = Counter("of_dp_disconnections", "Connections of the switch that ended", D, registry=self.registry)
        self.packet_kinds = Counter(
            "warren_packet_ins",
            "Packets sent to the controller, by reason: acl (a rule that logs), ttl (TTL expired), large (larger than the destination network's MTU), dhcp, probe (of a tunnel), other",
            (*D, "kind"), registry=self.registry,
        )  # fmt: skip
        self.dhcp_asked = Counter(
            "warren_dhcp_asked",
            "DHCP messages and router solicitations from this host's endpoints",
            (*D, "what"),
            registry=self.registry,
        )
        self.dhcp_told = Counter(
            "warren_dhcp_told",
            "DHCP messages and router advertisements to this host's endpoints",
            (*D, "what"),
            registry=self.registry,
        )
        self.dhcp_ignored = Counter(
            "warren_dhcp_ignored", "DHCP packets and router solicitations without an answer, by reason", (*D, "reason"),
            registry=self.registry,
        )  # fmt: skip
        self.reload_requests = Counter(
            "faucet_config_reload_requests", "Changes of the specs that the controller has read", registry=self.registry
        )
        self.reload_warm = Counter(
            "faucet_config_reload_warm",
            "Changes of the specs that changed flows, while packets went on",
            D,
            registry=self.registry,
        )
        self.reload_cold = Counter(
            "faucet_config_reload_cold", "Changes of the specs that began the switch anew: none, Warren never does that", D,
            registry=self.registry,
        )  # fmt: skip
        self.packet_in_seconds = Histogram(
            "faucet_packet_in_secs", "Handling of a packet by the controller, seconds", D,
            buckets=FAUCET_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.bundle = Histogram(
            "warren_bundle_seconds", "From sending a bundle until the switch has committed it, seconds", D,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.change = Histogram(
            "warren_change_seconds", "From etcd's event until the switch has committed it, seconds", D,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip

    def connected(self, *labels: str) -> None:
        """Count a connection of the switch. The series of its reloads are served from now on, though nothing has happened yet."""
        self.connections.labels(*labels).inc()
        for counter in (self.reload_warm, self.reload_cold):
            counter.labels(*labels)

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
            ("warren_problems", "Specs that contradict each other or cannot be carried out", state["problems"]),
        ):
            yield _one(name, text, D, [(dp, value)])
        endpoints = [((*dp, which), count) for which, count in state["endpoints"].items()]
        drift = [((*dp, "missing"), state["drift"] - state["strays"]), ((*dp, "stray"), state["strays"])]
        text = "Flows and groups that were missing or superfluous in a read-back of the switch"
        counted = CounterMetricFamily("warren_drift", text, labels=(*D, "what"))
        for label_values, count in drift:
            counted.add_metric(label_values, count)
        yield counted
        for name, text, at in (
            ("up", "Whether small packets return from a host that this one sends to: 0 or 1", 0),
            ("mtu_ok", "Whether packets of full size return as well: 0 or 1", 1),
            ("rtt_seconds", "The last round trip through the tunnel and both switches, seconds", 2),
        ):
            came = [((*dp, *path), float(health[at])) for path, health in state["tunnels"].items() if health[at] is not None]
            yield _one(f"warren_tunnel_{name}", text, (*D, "peer", "profile"), came)
        tracked = state["connections"]
        for name, text, position in (
            ("warren_connections", "Tracked connections of a network on this host", 1),
            ("warren_connections_limit", "Limit of tracked connections of a network on this host", 0),
        ):
            yield _one(name, text, (*D, *N), [((*dp, *network), limit[position]) for network, limit in tracked.items()])
        yield _one("warren_endpoints", "Endpoints of this host by state", (*D, "state"), endpoints)
