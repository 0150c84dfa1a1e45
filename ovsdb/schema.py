"""The tables and columns of Open_vSwitch that Warren monitors, as the part of the schema that the client needs. Pure.

`Bridge.ports` and `Port.interfaces` are left out on purpose: with N ports, each change of them costs O(N) in the client.
"""

from __future__ import annotations

from typing import Any

DATABASE = "Open_vSwitch"

_TEXT = {"type": "string"}
_INTEGER = {"type": "integer"}
_OPTIONAL_TEXT = {"type": {"key": "string", "min": 0, "max": 1}}
_OPTIONAL_INTEGER = {"type": {"key": "integer", "min": 0, "max": 1}}
_BOOLEAN = {"type": "boolean"}
_TEXTS = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_CONTROLLERS = {"type": {"key": {"type": "uuid", "refTable": "Controller"}, "min": 0, "max": "unlimited"}}

TABLES: dict[str, dict[str, Any]] = {
    "Open_vSwitch": {"next_cfg": _INTEGER, "cur_cfg": _INTEGER, "external_ids": _MAP},
    "Bridge": {
        "name": _TEXT,
        "datapath_type": _TEXT,
        "fail_mode": _OPTIONAL_TEXT,
        "protocols": _TEXTS,
        "stp_enable": _BOOLEAN,
        "rstp_enable": _BOOLEAN,
        "controller": _CONTROLLERS,
        "external_ids": _MAP,
        "other_config": _MAP,
    },
    "Controller": {
        "target": _TEXT,
        "connection_mode": _OPTIONAL_TEXT,
        "max_backoff": _OPTIONAL_INTEGER,
        "controller_rate_limit": _OPTIONAL_INTEGER,
        "controller_burst_limit": _OPTIONAL_INTEGER,
    },
    "Port": {"name": _TEXT},
    "Interface": {
        "name": _TEXT,
        "type": _TEXT,
        "options": _MAP,
        "ofport": _OPTIONAL_INTEGER,
        "ofport_request": _OPTIONAL_INTEGER,
        "external_ids": _MAP,
        "error": _OPTIONAL_TEXT,
        "mtu_request": _OPTIONAL_INTEGER,
    },
}


def schema() -> dict[str, Any]:
    """Return a new copy, in the form of a `get_schema` reply."""
    tables = {name: {"columns": {column: dict(kind) for column, kind in columns.items()}} for name, columns in TABLES.items()}
    return {"name": DATABASE, "version": "8.0.0", "tables": tables}
