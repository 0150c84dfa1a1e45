"""FAUCET's own ACL flows, for the differential test. Run with the Python of .venv-faucet; imports nothing of Warren.

Reads configurations from standard input, one JSON object {"acls": {NAME: BODY}, "ports": {NAME: NUMBER}, "meters": {NAME: ID}} in
a line, and answers each with a line: {"refused": TEXT, "crash": TYPE or null} or {"flows": [..]} in the normalised form of tests/flowtable.py.

The way is that of FAUCET when a switch connects: its parser reads the YAML file, its Valve makes the messages, its sorting
removes what is superfluous. What is told is read back from the serialised bytes, as a switch would.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faucet import faucet_metrics, valve, valve_of
from faucet.conf import InvalidConfigError
from faucet.config_parser import dp_parser
from faucet.valve_of import NullRyuDatapath, is_flowmod, ofp, parser
from faucet.valve_table import ValveTable
from prometheus_client import CollectorRegistry

MATCH_AT = 48  # where the match begins in a flow mod: OpenFlow 1.3, A.3.4.1
INSTRUCTION = {getattr(ofp, name): name for name in ("OFPIT_GOTO_TABLE", "OFPIT_APPLY_ACTIONS", "OFPIT_METER")}


class Deaf:
    """Stands for FAUCET's event socket."""

    def notify(self, *_: Any, **__: Any) -> None:
        """Nobody listens."""


def configuration(case: dict[str, Any]) -> dict[str, Any]:
    """A whole faucet.yaml around the ACLs, which are those of port p1 in that order."""
    interfaces: dict[str, Any] = {name: {"number": number, "native_vlan": "office"} for name, number in case["ports"].items()}
    interfaces["p1"]["acls_in"] = list(case["acls"])
    return {
        "version": 2,
        "vlans": {"office": {"vid": 100}},
        "acls": case["acls"],
        "meters": {
            name: {"meter_id": number, "entry": {"flags": "KBPS", "bands": [{"type": "DROP", "rate": 1000}]}}
            for name, number in case["meters"].items()
        },
        "dps": {"sw1": {"dp_id": 1, "hardware": "Open vSwitch", "interfaces": interfaces}},
    }


def messages(path: str, metrics: Any) -> tuple[Any, list[Any]]:
    """FAUCET's datapath and what it sends when that switch connects. Raises what FAUCET raises."""
    for cached in (valve_of.flowmod, valve_of._apply_actions, ValveTable._trim_inst):
        cached.cache_clear()  # they share objects that are changed later: each configuration is to have a process of its own
    _, _, (dp,), _ = dp_parser(path, "oracle")
    made = valve.valve_factory(dp)(dp, "oracle", metrics, Deaf(), None)
    return dp, made.prepare_send_flows(made.datapath_connect(time.time(), set(dp.ports)))


def flows(dp: Any, sent: list[Any]) -> list[dict[str, Any]]:
    """The flows of p1 and the miss of the port_acl table."""
    table = dp.tables["port_acl"].table_id
    names = {other.table_id: name for name, other in dp.tables.items()}
    mods = [m for m in sent if is_flowmod(m) and m.table_id == table and m.command == ofp.OFPFC_ADD]
    all_flows = [decoded(mod, names) for mod in mods]
    return [flow for flow in all_flows if flow["match"].pop("in_port", [1, None]) == [1, None]]


def decoded(mod: Any, names: dict[int, str]) -> dict[str, Any]:
    """A flow mod's bytes in the normalised form."""
    mod.datapath, mod.xid = NullRyuDatapath(), 1
    mod.serialize()
    buf = bytes(mod.buf)
    match, at = match_of(buf)
    flow: dict[str, Any] = {"priority": mod.priority, "match": match, "meter": None, "actions": [], "goto": None}
    while at < len(buf):
        instruction = parser.OFPInstruction.parser(buf, at)
        match INSTRUCTION[instruction.type]:
            case "OFPIT_METER":
                flow["meter"] = instruction.meter_id
            case "OFPIT_GOTO_TABLE":
                flow["goto"] = names[instruction.table_id]
            case "OFPIT_APPLY_ACTIONS":
                flow["actions"] = [action_of(action) for action in instruction.actions]
        at += instruction.len
    return flow


def match_of(buf: bytes) -> tuple[dict[str, list[int | None]], int]:
    """The match in the order of the bytes, which counts for prerequisites; and where the instructions begin."""
    length = int.from_bytes(buf[MATCH_AT + 2 : MATCH_AT + 4], "big")
    fields: dict[str, list[int | None]] = {}
    at, end = MATCH_AT + 4, MATCH_AT + length
    while at < end:
        number, value, mask, size = ofp.oxm_parse(buf, at)
        name, _ = ofp.oxm_to_user(number, value, mask)
        fields[name] = [int.from_bytes(value, "big"), None if mask is None else int.from_bytes(mask, "big")]
        at += size
    return fields, MATCH_AT + (length + 7) // 8 * 8


def action_of(action: Any) -> list[Any]:
    """An action in the normalised form."""
    match action.type:
        case ofp.OFPAT_OUTPUT:
            return ["output", action.port]
        case ofp.OFPAT_PUSH_VLAN:
            return ["push_vlan", action.ethertype]
        case ofp.OFPAT_POP_VLAN:
            return ["pop_vlan"]
        case ofp.OFPAT_SET_FIELD:
            _, value, _ = ofp.oxm_from_user(action.key, action.value)
            return ["set_field", action.key, int.from_bytes(value, "big")]
    return ["other", type(action).__name__]


def answer(case: dict[str, Any], path: Path, metrics: Any) -> dict[str, Any]:
    """What FAUCET makes of a configuration."""
    path.write_text(json.dumps(configuration(case)))  # JSON is YAML too
    try:
        dp, sent = messages(str(path), metrics)
    except InvalidConfigError as error:
        return {"refused": str(error), "crash": None}
    except Exception as error:  # FAUCET ends its own process on these (kill_on_exception)
        return {"refused": str(error), "crash": type(error).__name__}
    return {"flows": flows(dp, sent)}


def main() -> None:
    """Answer every line."""
    logging.disable(logging.CRITICAL)
    metrics = faucet_metrics.FaucetMetrics(reg=CollectorRegistry())
    with tempfile.TemporaryDirectory() as directory:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), Path(directory) / "faucet.yaml", metrics)), flush=True)


if __name__ == "__main__":
    main()
