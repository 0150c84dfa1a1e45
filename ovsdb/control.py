"""Runs commands of ovs-vswitchd (ovs-appctl(8)) over its control socket, without a process for each."""

from __future__ import annotations

import codecs
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovsdb.client import Ovsdb
from ovsdb.jsonstream import Parser
from warren.errors import Unavailable

DAEMON = "ovs-vswitchd"
TIMEOUT_S = 10.0
CHUNK = 1 << 18  # bytes


class Refused(Unavailable):
    """ovs-vswitchd has read a command and refuses it: mostly its arguments are wrong."""


def appctl(command: str, *arguments: str) -> str:
    """Run a command; return its output. Raises `Unavailable`, of which `Refused` if the command is wrong."""
    request = json.dumps({"id": 0, "method": command, "params": list(arguments)}).encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(_path())
            connection.sendall(request)
            reply = _read(connection)
    except OSError as error:
        raise Unavailable(DAEMON, f"its control socket does not answer ({error.strerror or error})") from None
    if not isinstance(reply, dict):
        raise Unavailable(DAEMON, str(reply))
    if reply.get("error") is not None:
        raise Refused(DAEMON, (str(reply["error"]).strip().splitlines() or ["no reason"])[0])
    return str(reply.get("result") or "")


def datapath(ovsdb: Ovsdb, bridge: str) -> str:
    """Return the name of a bridge's datapath in the form that dpctl commands take."""
    row = ovsdb.observed().bridge(bridge)
    kind = (row.datapath_type if row is not None else "") or "system"
    return f"{kind}@ovs-{kind}"


def has_datapath(appctl: Callable[..., str]) -> bool:
    """Return whether ovs-vswitchd answers and has a datapath: the controller creates the bridge, and tells so if it cannot."""
    try:
        return bool(appctl("dpctl/dump-dps").split())
    except Unavailable:
        return False


class ZoneLimit(NamedTuple):
    """How many connections a conntrack zone may have, and how many it has."""

    limit: int
    connections: int


def zone_limits(text: str) -> dict[int, ZoneLimit]:
    """Return the zones with a limit of their own from the output of dpctl/ct-get-limits."""
    rows = re.findall(r"^zone=(\d+),limit=(\d+),count=(\d+)$", text, re.MULTILINE)
    return {int(zone): ZoneLimit(int(limit), int(count)) for zone, limit, count in rows}


def held_versions(text: str) -> tuple[str, ...]:
    """Return the IP versions whose fragments are held from the output of dpctl/ipf-get-status."""
    return tuple(re.findall(r"^\s*(v[46]) enabled: 1$", text, re.MULTILINE))


def _read(connection: socket.socket) -> object:
    parser, decoder = Parser(), codecs.getincrementaldecoder("utf-8")("replace")
    while not parser.is_done():
        data = connection.recv(CHUNK)
        if not data:
            return "it closed the connection"
        parser.feed(decoder.decode(data))
    return parser.finish()


def _path() -> str:
    """Return the path of the control socket: the one that the daemon's pid file names, otherwise one that exists."""
    directory = Path(os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch")
    try:
        pid = int((directory / f"{DAEMON}.pid").read_text())
        sockets = [directory / f"{DAEMON}.{pid}.ctl", directory / f"{DAEMON}.ctl"]
    except (OSError, ValueError):
        sockets = [*sorted(directory.glob(f"{DAEMON}.*.ctl"), reverse=True), directory / f"{DAEMON}.ctl"]
    return str(next((path for path in sockets if path.exists()), sockets[-1]))
