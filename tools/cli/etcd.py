"""warren etcd ..."""

from __future__ import annotations

import typer

from tools.cli.context import client

app = typer.Typer(help="The store that all hosts read.", no_args_is_help=True)


@app.command(epilog="Example: warren etcd accept")
def accept(context: typer.Context) -> None:
    """Accept what etcd holds after it was restored or emptied.

    Hosts that hold their state (see warren status) continue with etcd's content, and remove endpoints that etcd does not have.
    """
    client(context).accept_etcd()
    print("accepted: hosts act on what etcd holds now")
