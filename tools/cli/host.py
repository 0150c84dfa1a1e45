"""warren host ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.context import JsonOption, client, print_one

app = typer.Typer(help="Machines; each runs Open vSwitch, a controller and an agent.", no_args_is_help=True)


@app.command("list", epilog="Example: warren host list --json")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the hosts."""
    hosts = client(context).hosts()
    if json:
        show.as_json([host.raw for host in hosts])
        return
    rows = [(h.name, h.vtep, h.site, h.underlay, h.underlay_mtu, h.agent, h.controller, h.api) for h in hosts]
    columns = ("NAME", "VTEP", "SITE", "UNDERLAY", "UNDERLAY MTU", "AGENT", "CONTROLLER", "API")
    show.table(columns, rows, "no hosts (start warren-agent on one)")


@app.command("show", epilog="Example: warren host show h1")
def show_(
    context: typer.Context, host: Annotated[str, typer.Argument(help="Name of the host.")], json: JsonOption = False
) -> None:
    """Show one host and what its agent and controller report."""
    print_one(client(context).host(host), json)


@app.command(epilog="Example: warren host remove h2 --dry-run")
def remove(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help="Name of the host.")],
    dry_run: Annotated[bool, typer.Option(help="Print what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove a host that is gone for good, with its endpoints. Refused while its agent or controller runs."""
    for line in client(context).remove_host(host, dry_run=dry_run):
        print(f"{'would remove' if dry_run else 'removed'} {line}")
