"""warren publish ..."""

from __future__ import annotations

import json as json_module
import re
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Client, Failure
from tools.cli.context import Json, client

app = typer.Typer(help="Ports of a host that lead to an endpoint on it (its network is in mode nat).", no_args_is_help=True)
Origin = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name, NETWORK/NAME or id.")]
EXPECTED = "HOST_PORT:PORT, with HOST_IP: before and /udp or /sctp behind, such as 8080:80 or 192.0.2.1:8000-8010:8000-8010/udp"
Way = Annotated[str, typer.Argument(metavar="WAY", help=EXPECTED)]
_WAY = re.compile(r"(?:(?P<host_ip>\[[^\]]+\]|[^:\[\]]+):)?(?P<host_port>[\d-]+):(?P<port>[\d-]+)(?:/(?P<proto>\w+))?")
WAIT_S = 20.0


@app.command(epilog="Example: warren publish add web-1 8080:80")
def add(context: typer.Context, endpoint: Origin, way: Way) -> None:
    """Lead a port of the endpoint's host, or a range of them, to the endpoint."""
    agent = client(context)
    found, wanted = _endpoint(agent, endpoint), parse(way)
    _write(agent, found, [*(w for w in found["publish"] if w != wanted), wanted])


@app.command(epilog="Example: warren publish remove web-1 8080:80")
def remove(context: typer.Context, endpoint: Origin, way: Way) -> None:
    """Take a published port back; connections through others go on."""
    agent = client(context)
    found, wanted = _endpoint(agent, endpoint), parse(way)
    if wanted not in found["publish"]:
        raise Failure(f"{endpoint} does not publish {way} (warren publish list)")
    _write(agent, found, [w for w in found["publish"] if w != wanted])


@app.command("list", epilog="Example: warren publish list --json")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the published ports of all hosts."""
    found = [
        {"host": e["hostname"], **way, "network": e["network"], "endpoint": e["name"] or e["id"]}
        for e in client(context).get("/endpoints")["endpoints"]
        for way in e["publish"]
    ]
    if json:
        show.as_json(found)
        return
    rows = [(w["host"], w.get("host_ip", ""), w["host_port"], w["proto"], w["port"], w["network"], w["endpoint"]) for w in found]
    columns = ("HOST", "ADDRESS", "HOST PORT", "PROTOCOL", "PORT", "NETWORK", "ENDPOINT")
    show.table(columns, rows, "nothing is published (warren publish add ENDPOINT 8080:80)")


def parse(way: str) -> dict[str, Any]:
    """A way as Docker writes it. Raises `Failure`."""
    found = _WAY.fullmatch(way)
    if found is None:
        raise Failure(f"{way!r}: expected {EXPECTED}")
    wanted: dict[str, Any] = {name: _ports(found[name]) for name in ("host_port", "port")} | {"proto": found["proto"] or "tcp"}
    return wanted | ({"host_ip": found["host_ip"].strip("[]")} if found["host_ip"] else {})


def _ports(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _endpoint(agent: Client, ref: str) -> dict[str, Any]:
    found: dict[str, Any] = agent.get(f"/endpoints/{ref}")["endpoint"]
    return found


def _write(agent: Client, found: dict[str, Any], ways: list[dict[str, Any]]) -> None:
    item = {"id": found["id"], "network": found["network_id"], "host": found["hostname"], "publish": ways}
    document = json_module.dumps({"endpoints": [item | ({"name": found["name"]} if found["name"] else {})]})
    agent.post("/apply", {"document": document, "wait_s": WAIT_S})
