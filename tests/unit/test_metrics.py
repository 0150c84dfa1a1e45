"""Every metric is documented with its help, every documented one exists, and a scrape costs what is there."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from controller.metrics import Gauge, MeterNumbers, Numbers, Own, Place, Polled, PortState

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
STATE: dict[str, Any] = {
    "dpid": 0xABC, "name": "h1", "connected": True, "seen": 9, "applied": 8, "flows": 7, "refused": 0, "drift": 2, "problems": 1,
    "endpoints": {"up": 3, "closed": 1},
}  # fmt: skip


def polled(ports: int = 1) -> Polled:
    return Polled(
        dpid=0xABC, name="h1", connected=True,
        ports={n: Numbers(1, 2, 3, 4, 5, 6, 7, 8) for n in range(1, ports + 1)},
        states={n: PortState(f"wv{n}", 4, 10, 20) for n in range(1, ports + 1)},
        tables={"ACL_IN": 5}, meters={0x8000: MeterNumbers(1, 2, 3, 4, 5)}, rules={"web#2": (11, 1100)},
    )  # fmt: skip


def registries(ports: int = 1) -> tuple[CollectorRegistry, CollectorRegistry]:
    gauge = CollectorRegistry()
    gauge.register(Gauge(polled(ports), lambda: {n: Place("amber", f"web-{n}") for n in range(1, ports + 1)}))  # type: ignore[arg-type]
    own = Own(lambda: STATE)
    for counter in (own.packet_ins, own.errors, own.flow_messages, own.connections, own.disconnections):
        counter.labels("0xabc", "h1").inc()
    for histogram in (own.bundle, own.change):
        histogram.labels("0xabc", "h1").observe(0.003)
    return gauge, own.registry


def table() -> list[str]:
    """The rows that docs/metrics.md should have."""
    rows = []
    for where, registry in zip(("9303", "9302"), registries(), strict=True):
        for family in registry.collect():
            told = next(sample for sample in family.samples)
            labels = ", ".join(name for name in told.labels if name not in ("dp_id", "dp_name", "le"))
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


def test_gauges_names_and_labels_are_faucets() -> None:
    text = generate_latest(registries()[0]).decode()
    labels = 'dp_id="0xabc",dp_name="h1",port="wv1",port_description="amber/web-1"'
    for position, name in enumerate(Numbers._fields, 1):
        assert f"of_port_{name}{{{labels}}} {position}.0\n" in text
    assert 'of_meter_packet_band_count{dp_id="0xabc",dp_name="h1",meter_id="32768"} 4.0' in text
    assert 'warren_acl_rule_packets_total{acl="web",dp_id="0xabc",dp_name="h1",rule="2"} 11.0' in text


def test_a_scrape_grows_with_the_ports_and_no_faster() -> None:
    def took(ports: int) -> float:
        registry = registries(ports)[0]
        begun = time.perf_counter()
        assert generate_latest(registry).count(b"\nof_port_rx_bytes{") == ports
        return time.perf_counter() - begun

    took(100)
    few, many = min(took(500) for _ in range(3)), min(took(4000) for _ in range(3))
    assert many < 8 * few * 3


def test_a_line_of_json_has_all_of_it() -> None:
    line = json.loads(polled().line(12.5))
    assert line["time"] == 12.5
    assert line["ports"]["1"][2] == 3
    assert line["rules"] == {"web#2": [11, 1100]}
    assert not re.search(r"\n", polled().line(1.0))
