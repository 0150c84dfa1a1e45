"""Every metric is documented, every documented metric exists, and a scrape costs no more than the number of ports."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from agent.encryption.health import PairState
from agent.encryption.metrics import OutsideMetrics
from controller.telemetry import sinks
from controller.telemetry.counters import Answers, Parts, Reading, Totals
from controller.telemetry.metrics import ControllerMetrics, Faucet, Gauge
from controller.telemetry.switch_stats import Description, MeterNumbers, Numbers, Place, Polled, PortState
from controller.tunnels.probes import Health

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
STATE: dict[str, Any] = {
    "dpid": 0xABC, "name": "h1", "connected": True, "seen": 9, "applied": 8, "flows": 7, "refused": 0, "drift": 3, "strays": 1, "problems": 1,
    "endpoints": {"up": 3, "closed": 1}, "connections": {("amber", "acme"): (100, 3)}, "tunnels": {("h2", "default"): Health(True, False, 0.002), ("h3", "shop"): Health(False, False, None)},
}  # fmt: skip


def polled(ports: int = 1) -> Polled:
    return Polled(
        dpid=0xABC, name="h1", connected=True,
        ports={n: Numbers(1, 2, 3, 4, 5, 6, 7, 8) for n in range(1, ports + 1)},
        states={n: PortState(f"wv{n}", 4, 10, 20) for n in range(1, ports + 1)},
        tables={"ACL_IN": 5}, meters={0x8000: MeterNumbers(1, 2, 3, 4, 5), 0x10001: MeterNumbers(1, 2, 3, 9, 5)}, rules={"web#2": (11, 1100)}, drops={"SPOOF_GUARD": (4, 400)}, spoofed={"amber/web-1": (3, 300)}, groups={"network/amber": (6, 600)}, networks={"amber": (1, 2, 3, 4)},
        description=Description("Nicira, Inc.", "Open vSwitch", "3.1.0", "None", "None"),
    )  # fmt: skip


def outside() -> OutsideMetrics:
    """The metrics of h1's agent: one tunnel is up, the other has had no handshake yet."""
    pairs = [
        PairState(peer="h3", cipher="wireguard", up=True, reason=None, handshake_age_s=40, received=7000, sent=8000),
        PairState(peer="h5", cipher="ipsec", up=False, reason="no answer", handshake_age_s=None, received=0, sent=9),
    ]
    return OutsideMetrics("h1", lambda: pairs, lambda: {"received": 3, "sent": 0}, lambda: 5)


def registries(ports: int = 1) -> tuple[CollectorRegistry, CollectorRegistry, CollectorRegistry]:
    agent = CollectorRegistry()
    agent.register(outside())  # type: ignore[arg-type]
    gauge = CollectorRegistry()
    gauge.register(
        Gauge(
            polled(ports), lambda: {n: Place("amber", f"web-{n}", "acme") for n in range(1, ports + 1)}, lambda: {"amber": "acme"}
        )
    )  # type: ignore[arg-type]
    controller = ControllerMetrics(lambda: STATE)
    controller.registry.register(Faucet(polled(ports), dict))  # type: ignore[arg-type]
    controller.packet_kinds.labels("0xabc", "h1", "acl").inc()
    for counter in (controller.dhcp_asked, controller.dhcp_told, controller.dhcp_ignored):
        counter.labels("0xabc", "h1", "request").inc()
    for counter in (
        controller.packet_ins,
        controller.errors,
        controller.flow_messages,
        controller.connections,
        controller.disconnections,
        controller.reload_warm,
        controller.reload_cold,
    ):
        counter.labels("0xabc", "h1").inc()
    for histogram in (controller.bundle, controller.change, controller.packet_in_seconds):
        histogram.labels("0xabc", "h1").observe(0.003)
    return gauge, controller.registry, agent


def test_tunnels_have_a_state_an_age_and_bytes_and_the_guard_its_drops() -> None:
    text = outside().text()
    for line in (
        'warren_encrypted_tunnel_up{cipher="wireguard",dp_name="h1",peer="h3"} 1.0',
        'warren_encrypted_tunnel_up{cipher="ipsec",dp_name="h1",peer="h5"} 0.0',
        'warren_encrypted_tunnel_handshake_age_seconds{cipher="wireguard",dp_name="h1",peer="h3"} 40.0',
        'warren_encrypted_tunnel_received_bytes_total{cipher="wireguard",dp_name="h1",peer="h3"} 7000.0',
        'warren_encrypted_tunnel_sent_bytes_total{cipher="ipsec",dp_name="h1",peer="h5"} 9.0',
        'warren_guard_dropped_packets_total{direction="received",dp_name="h1"} 3.0',
        'warren_allowlist_refused_packets_total{dp_name="h1"} 5.0',
    ):
        assert f"{line}\n" in text
    assert 'age_seconds{cipher="ipsec"' not in text


def table() -> list[str]:
    """The rows that docs/metrics.md should have."""
    rows = []
    for where, registry in zip(("9303", "9302", "agent"), registries(), strict=True):
        for family in registry.collect():
            first = next(sample for sample in family.samples)
            labels = ", ".join(name for name in first.labels if name not in ("dp_id", "dp_name", "le"))
            suffix = "_total" if family.type == "counter" else ""
            rows.append(f"| `{family.name}{suffix}` | {family.type} | {where} | {labels} | {family.documentation} |")
    return sorted(set(rows))


def test_the_document_has_every_metric(update_golden: bool) -> None:
    text = DOCUMENT.read_text()
    if update_golden:
        kept = [line for line in text.splitlines() if not line.startswith("| `")]
        head = kept.index("|---|---|---|---|---|") + 1
        DOCUMENT.write_text("\n".join([*kept[:head], *table(), *kept[head:]]) + "\n")
        text = DOCUMENT.read_text()
    assert sorted(line for line in text.splitlines() if line.startswith("| `")) == table()


UNITS = ("bytes", "packets", "seconds", "kb/s", "0 or 1", "errors", "flows", "endpoints", "connections", "messages", "specs", "revision",
         "bits of a port", "0 added", "datapath's id", "groups", "byte", "packet", "flow count")  # fmt: skip


def test_every_metric_says_what_it_counts() -> None:
    """A unit in its name, as Prometheus advises, or in its help."""
    for registry in registries():
        for family in registry.collect():
            described = f"{family.name} {family.documentation}".lower()
            assert any(unit in described for unit in UNITS), described
            assert family.documentation[0] != " "


def test_gauges_names_and_labels_are_faucets() -> None:
    text = generate_latest(registries()[0]).decode()
    labels = 'dp_id="0xabc",dp_name="h1",port="wv1",port_description="amber/web-1"'
    for position, name in enumerate(Numbers._fields, 1):
        assert f"of_port_{name}{{{labels}}} {position}.0\n" in text
    assert 'of_meter_packet_band_count{dp_id="0xabc",dp_name="h1",meter_id="32768"} 4.0' in text
    assert 'meter_id="65537"' not in text  # of a port: told by endpoint
    assert 'warren_dhcp_limited_packets{dp_id="0xabc",dp_name="h1",endpoint="web-1",network="amber",tenant="acme"} 9.0' in text
    assert 'warren_acl_rule_packets_total{acl="web",dp_id="0xabc",dp_name="h1",rule="2"} 11.0' in text


def test_a_tunnel_that_is_down_has_no_round_trip() -> None:
    text = generate_latest(registries()[1]).decode()
    labels = 'dp_id="0xabc",dp_name="h1",peer='
    for name, h2, h3 in (("up", "1.0", "0.0"), ("mtu_ok", "0.0", "0.0"), ("rtt_seconds", "0.002", None)):
        assert f'warren_tunnel_{name}{{{labels}"h2",profile="default"}} {h2}\n' in text
        assert (f'warren_tunnel_{name}{{{labels}"h3",profile="shop"}} {h3}\n' in text) == (h3 is not None)


def test_a_scrape_grows_with_the_ports_and_no_faster() -> None:
    def took(ports: int) -> float:
        registry = registries(ports)[0]
        begun = time.process_time()
        assert generate_latest(registry).count(b"\nof_port_rx_bytes{") == ports
        return time.process_time() - begun  # of this process: others may be at work

    took(100)
    few, many = min(took(500) for _ in range(5)), min(took(4000) for _ in range(5))
    assert many < 8 * few * 3


def test_a_json_line_holds_all_counters() -> None:
    line = json.loads(sinks.json_line(polled(), 12.5))
    assert line["time"] == 12.5
    assert line["ports"]["1"][2] == 3
    assert line["rules"] == {"web#2": [11, 1100]}
    assert "\n" not in sinks.json_line(polled(), 1.0)


def test_gauges_text() -> None:
    lines = list(sinks.tab_lines(polled(), 0.0))
    assert lines[0] == "Jan 01 00:00:00\th1-wv1-packets-out\t2"
    assert "Jan 01 00:00:00\th1-wv1-bytes-in\t3" in lines
    assert len(lines) == 8


def test_influxs_line_protocol_keeps_odd_names_in_their_place() -> None:
    lines = list(sinks.influx_lines(polled(), {1: Place("my net", "a,b=c\nd")}, 1.5))
    assert (
        lines[0]
        == "packets_out,dp_name=h1,endpoint=a\\,b\\=c\\ d,network=my\\ net,port_name=wv1,tenant=default value=2i 1500000000"
    )
    assert lines[-1].startswith("port_state_reason,")
    assert len(lines) == 9


def test_multipart_answers_are_complete_with_their_last_part() -> None:
    parts = Parts()
    assert parts.take(1, [1, 2], True) is None
    assert parts.take(2, [7], False) == [7]  # another question's answer in between
    assert parts.take(1, [3], False) == [1, 2, 3]


def test_answers_to_unknown_requests_are_ignored() -> None:
    answers = Answers()
    answers.expect([5, 6])
    assert answers.take(5, ["a"], True) is None
    assert answers.take(9, ["the overlay's read-back"], False) is None
    assert answers.take(6, ["b"], False) is None
    assert answers.take(5, ["c"], False) == ["a", "b", "c"]
    assert answers.take(5, ["again"], False) is None


def test_a_total_never_falls_when_flows_are_replaced() -> None:
    tally = Totals()
    tally.take([Reading(1, "web#1", (100,), 50.0)], 10.0)
    assert tally.totals == {"web#1": (0,)}  # counted before this process began
    tally.take([Reading(1, "web#1", (103,), 60.0), Reading(2, "web#1", (5,), 4.0)], 10.0)
    assert tally.totals == {"web#1": (8,)}  # the new flow counts whole
    tally.take([Reading(2, "web#1", (6,), 14.0)], 10.0)
    assert tally.totals == {"web#1": (9,)}
    tally.take([Reading(2, "web#1", (2,), 3.0)], 10.0)  # installed anew
    assert tally.totals == {"web#1": (11,)}
    tally.take([], 10.0)
    assert tally.totals == {}
