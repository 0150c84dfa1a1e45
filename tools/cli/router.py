"""warren router ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.context import JsonOption, TenantOption, Timeout, Wait, await_hosts, client, print_one

app = typer.Typer(help="Routers: the endpoints of their networks reach each other through the gateways.", no_args_is_help=True)
RouterName = Annotated[str, typer.Argument(help="Name of the router.")]


@app.command(epilog="Example: warren router add core amber blue")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the router; an existing one is changed.")],
    networks: Annotated[
        list[str], typer.Argument(help="Two or more networks (names or ids), in mode nat or routed, without common addresses.")
    ],
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Route between networks. ACLs still apply: those of the sender, and vlan_out_acl of the receiving network."""
    agent = client(context)
    router = agent.put_router(name, networks)
    if wait:
        await_hosts(agent, timeout)
    print_one(router, json)


@app.command("list", epilog="Example: warren router list")
def list_(context: typer.Context, tenant: TenantOption = None, json: JsonOption = False) -> None:
    """List the routers."""
    routers = client(context).routers(tenant)
    if json:
        show.as_json([router.raw for router in routers])
        return
    rows = [(router.name, ", ".join(router.networks)) for router in routers]
    show.table(("NAME", "NETWORKS"), rows, "no routers (warren router add NAME NETWORK NETWORK)")


@app.command("show", epilog="Example: warren router show core --json")
def show_router(context: typer.Context, name: RouterName, json: JsonOption = False) -> None:
    """Show one router and the ranges of its networks."""
    router = client(context).router(name)
    if json:
        show.as_json(router.raw)
        return
    ranges = ((f"  {network}", ", ".join(ranges)) for network, ranges in router.ranges.items())
    show.fields([*((field, value) for field, value in router.raw.items() if field != "ranges"), *ranges])


@app.command(epilog="Example: warren router delete core")
def delete(context: typer.Context, name: RouterName) -> None:
    """Delete a router. Its networks no longer reach each other."""
    client(context).delete_router(name)
