"""warren service ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import publish
from tools.cli import show as shown
from tools.cli.client import Failure
from tools.cli.context import Json, Timeout, Wait, await_hosts, client, stated

app = typer.Typer(
    help="One port of the hosts that leads to several endpoints, a connection to each in turn.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Its name.")]
EXPECTED = "HOST_PORT:PORT, with /udp or /sctp behind, such as 8080:80"


@app.command(epilog="Example: warren service add shop amber 8080:80 --label role=web")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; a service of that name is changed.")],
    network: Annotated[str, typer.Argument(help="Its network (name or id), in mode nat.")],
    way: Annotated[str, typer.Argument(metavar="WAY", help=EXPECTED)],
    label: Annotated[str | None, typer.Option(help="All endpoints with this label: KEY or KEY=VALUE.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="An endpoint (name or id); may be repeated.")] = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Lead a port of every host with endpoints of the network to one of several endpoints, on any host."""
    found = publish.parse(way)
    if "host_ip" in found or not isinstance(found["host_port"], int):
        raise Failure(f"{way!r}: expected {EXPECTED}")
    agent = client(context)
    body = {"name": name, "network": network, **found}
    service = agent.post("/services", body | stated(label=label, endpoints=endpoint or None))["service"]
    if wait:
        await_hosts(agent, timeout)
    if json:
        shown.as_json(service)
    else:
        shown.fields(service.items())


@app.command("list", epilog="Example: warren service list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the services."""
    found = client(context).get("/services")["services"]
    if json:
        shown.as_json(found)
        return
    rows = [
        (
            s["name"],
            s["network"],
            s["host_port"],
            s["proto"],
            s["port"],
            s.get("label") or ", ".join(s["endpoints"]),
            s["members"],
        )
        for s in found
    ]
    columns = ("NAME", "NETWORK", "HOST PORT", "PROTOCOL", "PORT", "FOR", "MEMBERS")
    shown.table(columns, rows, "no services (warren service add NAME NETWORK 8080:80 --label KEY=VALUE)")


@app.command(epilog="Example: warren service show shop --json")
def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """Show one service and its members."""
    found = client(context).get(f"/services/{name}")["service"]
    if json:
        shown.as_json(found)
    else:
        shown.fields(found.items())


@app.command(epilog="Example: warren service delete shop")
def delete(context: typer.Context, name: Name) -> None:
    """Delete a service; its port leads nowhere."""
    client(context).delete(f"/services/{name}")
