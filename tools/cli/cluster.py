"""warren cluster ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli.client import Failure
from tools.cli.context import JsonOption, Timeout, Wait, await_hosts, client, print_one

app = typer.Typer(help="Settings of the whole cluster.", no_args_is_help=True)


@app.command(epilog="Example: warren cluster show")
def show(context: typer.Context, json: JsonOption = False) -> None:
    """Show the settings of the cluster."""
    print_one(client(context).cluster(), json)


@app.command("set", epilog="Example: warren cluster set --transit4 198.18.0.0/15")
def set_(
    context: typer.Context,
    transit4: Annotated[
        str | None, typer.Option(metavar="RANGE", help="IPv4 range between hosts and networks in mode nat: /15 or wider.")
    ] = None,
    transit6: Annotated[
        str | None, typer.Option(metavar="RANGE", help="IPv6 range between hosts and networks in mode nat: /111 or wider.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Change the ranges even if that breaks containers' connections to the outside.")
    ] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Change settings of the cluster, after they have been compared with the networks of all hosts."""
    if transit4 is None and transit6 is None:
        raise Failure("say --transit4 RANGE or --transit6 RANGE")
    agent = client(context)
    changed = agent.put_cluster(transit4=transit4, transit6=transit6, force=force)
    if wait:
        await_hosts(agent, timeout)
    print_one(changed, json)
