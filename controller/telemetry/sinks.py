"""Gauge's other sinks, as text: a line of JSON for each poll, Gauge's tab-separated lines, InfluxDB's line protocol. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from controller.telemetry.switch_stats import Numbers, Place, Polled

# Gauge's names of the counters (out: sent by the switch), and the fields of `Numbers`
STATISTICS = (
    ("packets_out", "tx_packets"), ("packets_in", "rx_packets"), ("bytes_out", "tx_bytes"), ("bytes_in", "rx_bytes"),
    ("dropped_out", "tx_dropped"), ("dropped_in", "rx_dropped"), ("errors_out", "tx_errors"), ("errors_in", "rx_errors"),
)  # fmt: skip
_POSITION = {name: position for position, name in enumerate(Numbers._fields)}


def json_line(polled: Polled, at: float) -> str:
    """The whole poll as one line; `at` is Unix time."""
    return json.dumps({"time": round(at, 3), **asdict(polled)}, separators=(",", ":"))


def tab_lines(polled: Polled, at: float) -> Iterator[str]:
    """Gauge's text: TIME, DATAPATH-PORT-STATISTIC, VALUE."""
    timestamp = time.strftime("%b %d %H:%M:%S", time.gmtime(at))
    for number, numbers in sorted(polled.ports.items()):
        state = polled.states.get(number)
        for statistic, field in STATISTICS if state is not None else ():
            name = f"{polled.name}-{state.name}-{statistic.replace('_', '-')}"  # type: ignore[union-attr]
            yield f"{timestamp}\t{name}\t{numbers[_POSITION[field]]}"


def influx_lines(polled: Polled, places: Mapping[int, Place], at: float) -> Iterator[str]:
    """Points of InfluxDB: Gauge's measurements (a counter each, tags dp_name and port_name, field `value`), tags `network`,
    `endpoint` and `tenant` where the port is an endpoint's, nanoseconds."""
    stamp = int(at * 1_000_000_000)
    for number, numbers in sorted(polled.ports.items()):
        state, place = polled.states.get(number), places.get(number)
        if state is None:
            continue
        tags = {"dp_name": polled.name, "port_name": state.name}
        if place is not None:
            tags |= {"endpoint": place.endpoint, "network": place.network, "tenant": place.tenant}
        written = "".join(f",{key}={_escaped(value)}" for key, value in sorted(tags.items()) if value)
        for statistic, field in STATISTICS:
            yield f"{statistic}{written} value={numbers[_POSITION[field]]}i {stamp}"
        yield f"port_state_reason{written} value={state.reason}i {stamp}"


def _escaped(value: str) -> str:
    """A tag's value with commas, equal signs and spaces escaped; a line break would end the point."""
    value = value.replace("\\", "\\\\").replace("\n", " ")
    return value.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
