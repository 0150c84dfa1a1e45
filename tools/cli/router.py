"""warren router ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show as shown
from tools.cli.context import Json, Timeout, Wait, await_hosts, client

app = typer.Typer(help="Networks whose endpoints reach each other through their gateways.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Its name.")]


@app.command(epilog="Example: warren router add core amber blue")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; a router of that name is changed.")],
    networks: Annotated[
        list[str], typer.Argument(help="Names or ids: two or more, in mode nat or routed, without common addresses.")
    ],
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Route between networks. ACLs go on counting: those of the sender, and vlan_out_acl of the network that it sends to."""
    agent = client(context)
    found = agent.post("/routers", {"name": name, "networks": networks})["router"]
    if wait:
        await_hosts(agent, timeout)
    if json:
        shown.as_json(found)
    else:
        shown.fields(found.items())


@app.command("list", epilog="Example: warren router list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the routers."""
    found = client(context).get("/routers")["routers"]
    if json:
        shown.as_json(found)
        return
    rows = [(router["name"], ", ".join(router["networks"])) for router in found]
    shown.table(("NAME", "NETWORKS"), rows, "no routers (warren router add NAME NETWORK NETWORK)")


@app.command(epilog="Example: warren router show core --json")
def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """Show one router and the ranges of its networks."""
    found = client(context).get(f"/routers/{name}")["router"]
    if json:
        shown.as_json(found)
        return
    ranges = found.pop("ranges")
    shown.fields([*found.items(), *((f"  {network}", ", ".join(there)) for network, there in ranges.items())])


@app.command(epilog="Example: warren router delete core")
def delete(context: typer.Context, name: Name) -> None:
    """Delete a router: its networks are apart again."""
    client(context).delete(f"/routers/{name}")
