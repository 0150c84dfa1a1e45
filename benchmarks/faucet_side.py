"""FAUCET's own time from faucet.yaml to flow messages, to set Warren's beside it. Run with the Python of .venv-faucet; no switch.

    .venv-faucet/bin/python benchmarks/faucet_side.py FILE [CHANGED]

Prints JSON: of FILE, a start ({"parse_s", "total_s", "flows", "messages", "bytes"}: parse, build the ACLs, make, sort and
serialise all messages); of CHANGED, the reload after it, as ValvesManager does it: parse the whole file, compare, make the
messages of what changed ("restart": "warm" or "cold"; after a cold one FAUCET drops the connection and starts again).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from faucet import faucet_metrics
from faucet.config_parser import dp_parser
from faucet.valve import valve_factory
from faucet.valve_of import NullRyuDatapath, is_flowmod, ofp
from prometheus_client import CollectorRegistry


class EventSocket:
    """Stands for FAUCET's event socket; keeps how the last reload was done."""

    restart = "none"

    def notify(self, dp_id: int, dp_name: str, event: dict[str, Any]) -> None:
        """As the Valve calls it."""
        if "restart_type" in event.get("CONFIG_CHANGE", {}):
            self.restart = event["CONFIG_CHANGE"]["restart_type"] or "none"


def written(messages: list[Any]) -> int:
    """Serialise as when sending; the bytes."""
    size = 0
    for message in messages:
        message.datapath, message.xid = NullRyuDatapath(), 1  # messages are shared between flows: set_xid would object
        message.serialize()
        size += len(message.buf)
    return size


def figures_of(begun: float, parsed: float, messages: list[Any]) -> dict[str, Any]:
    """The figures of one run, ended now."""
    size, ended = written(messages), time.perf_counter()
    return {
        "parse_s": round(parsed - begun, 4),
        "total_s": round(ended - begun, 4),
        "flows": sum(1 for m in messages if is_flowmod(m) and m.command == ofp.OFPFC_ADD),
        "messages": len(messages),
        "bytes": size,
    }


def start(path: str, listener: EventSocket) -> tuple[dict[str, Any], list[Any]]:
    """From nothing to all messages; the figures and the Valves."""
    metrics = faucet_metrics.FaucetMetrics(reg=CollectorRegistry())
    begun = time.perf_counter()
    _, _, dps, _ = dp_parser(path, "faucet")
    parsed = time.perf_counter()
    valves = [valve_factory(dp)(dp, "faucet", metrics, listener, None) for dp in dps]
    messages: list[Any] = []
    for valve in valves:
        messages += valve.prepare_send_flows(valve.datapath_connect(time.time(), set(valve.dp.ports)))
    return figures_of(begun, parsed, messages), valves


def reload(path: str, valves: list[Any], listener: EventSocket) -> dict[str, Any]:
    """From a changed file to the messages for running switches."""
    begun = time.perf_counter()
    _, _, dps, _ = dp_parser(path, "faucet")
    parsed = time.perf_counter()
    running = {valve.dp.dp_id: valve for valve in valves}
    messages: list[Any] = []
    for dp in dps:
        valve = running[dp.dp_id]
        changed = valve.reload_config(time.time(), dp, valves)
        if changed is None:  # cold: the switch connects again and gets everything
            changed = valve.datapath_connect(time.time(), set(dp.ports))
        messages += valve.prepare_send_flows(changed)
    return {**figures_of(begun, parsed, messages), "restart": listener.restart}


def main() -> None:
    """Measure one file, and a reload with the other."""
    logging.disable(logging.CRITICAL)
    listener = EventSocket()
    figures, valves = start(sys.argv[1], listener)
    print(json.dumps(figures))
    if len(sys.argv) > 2:
        print(json.dumps(reload(sys.argv[2], valves, listener)))


if __name__ == "__main__":
    main()
