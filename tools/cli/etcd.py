"""warren etcd ..."""

from __future__ import annotations

import typer

from tools.cli.context import client

app = typer.Typer(help="The store that all hosts read.", no_args_is_help=True)


@app.command(epilog="Example: warren etcd accept")
def accept(context: typer.Context) -> None:
    """Accept what etcd holds after it was restored or emptied.

    Hosts that hold (see warren status) go on, and remove the endpoints that etcd does not know.
    """
    client(context).accept_etcd()
    print("accepted: hosts act on what etcd holds now")
