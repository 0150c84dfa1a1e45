"""warren publish ..."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import EndpointRef, JsonOption, TenantOption, client, warn
from warren.client import PublishedPort

app = typer.Typer(
    help="Published ports: ports of a host that lead to an endpoint on it. The endpoint's network is in mode nat or routed.",
    no_args_is_help=True,
)
EXPECTED = "HOST_PORT:PORT, with HOST_IP: before and /udp or /sctp behind, such as 8080:80 or 192.0.2.1:8000-8010:8000-8010/udp"
PortsArgument = Annotated[str, typer.Argument(metavar="HOST_PORT:PORT", help=EXPECTED)]
_PORTS = re.compile(r"(?:(?P<host_ip>\[[^\]]+\]|[^:\[\]]+):)?(?P<host_port>[\d-]+):(?P<port>[\d-]+)(?:/(?P<proto>\w+))?")


@app.command(epilog="Example: warren publish add web-1 8080:80")
def add(context: typer.Context, endpoint: EndpointRef, ports: PortsArgument) -> None:
    """Make a port of the endpoint's host, or a range of ports, lead to the endpoint."""
    warn(client(context).publish(endpoint, parse(ports)))


@app.command(epilog="Example: warren publish remove web-1 8080:80")
def remove(context: typer.Context, endpoint: EndpointRef, ports: PortsArgument) -> None:
    """Stop publishing a port. Connections through other published ports go on."""
    client(context).unpublish(endpoint, parse(ports))


@app.command("list", epilog="Example: warren publish list --json")
def list_(context: typer.Context, tenant: TenantOption = None, json: JsonOption = False) -> None:
    """List the published ports of all hosts."""
    pairs = [(endpoint, port) for endpoint in client(context).endpoints(tenant=tenant) for port in endpoint.published]
    if json:
        show.as_json([{"host": e.host, **port.data(), "network": e.network, "endpoint": e.name or e.id} for e, port in pairs])
        return
    rows = [(e.host, port.host_ip, port.host_port, port.proto, port.port, e.network, e.name or e.id) for e, port in pairs]
    columns = ("HOST", "ADDRESS", "HOST PORT", "PROTOCOL", "PORT", "NETWORK", "ENDPOINT")
    show.table(columns, rows, "nothing is published (warren publish add ENDPOINT 8080:80)")


def parse(text: str) -> PublishedPort:
    """A published port as Docker writes it. Raises `Failure`."""
    match = _PORTS.fullmatch(text)
    if match is None:
        raise Failure(f"{text!r}: expected {EXPECTED}")
    host_ip = match["host_ip"].strip("[]") if match["host_ip"] else None
    return PublishedPort(
        host_port=_ports(match["host_port"]), port=_ports(match["port"]), proto=match["proto"] or "tcp", host_ip=host_ip
    )


def _ports(text: str) -> int | str:
    return int(text) if text.isdigit() else text
