"""warren adopt ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.context import JsonOption, client, labels, named, print_one

app = typer.Typer(
    help="Adoption rules: make endpoints of interfaces that other programs make for containers and virtual machines.",
    no_args_is_help=True,
)
RuleName = Annotated[str, typer.Argument(help="Name of the rule.")]


@app.command(epilog="Example: warren adopt create 've-*' --network blue")
def create(
    context: typer.Context,
    network: Annotated[str, typer.Option(help="Name or id of the network.")],
    match: Annotated[str | None, typer.Argument(help="Name of the interfaces, with * for any characters and ? for one.")] = None,
    iface_id: Annotated[
        str | None, typer.Option(help="Id under which a hypervisor puts them on the bridge, with * and ?; * alone for any.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Only on this host.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the rule (default: derived from MATCH).")] = None,
    label: Annotated[list[str], typer.Option(help="KEY=VALUE, for the endpoints; may be repeated.")] = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Create a rule, or change one. Taps and veths of that name, now and later, get an endpoint as long as they exist; with --iface-id, ports that a hypervisor
    (libvirt, Neutron) puts on the bridge under such an id."""
    print_one(client(context).put_adoption(match, network, host=host, name=name, labels=labels(label), iface_id=iface_id), json)


@app.command("list", epilog="Example: warren adopt list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the rules and the endpoints that they have made."""
    rules = client(context).adoptions()
    if json:
        show.as_json([rule.raw for rule in rules])
        return
    rows = [
        (rule.name, rule.match or "", rule.iface_id or "", rule.network, rule.host or "all", ", ".join(rule.endpoints))
        for rule in rules
    ]
    show.table(
        ("NAME", "MATCH", "IFACE-ID", "NETWORK", "HOST", "ENDPOINTS"),
        rows,
        "no rules (warren adopt create MATCH --network NETWORK)",
    )


@app.command("show", epilog="Example: warren adopt show ve-ANY")
def show_(context: typer.Context, name: RuleName, json: JsonOption = False) -> None:
    """Show one rule."""
    print_one(named(client(context).adoptions(), "adoption", name, "adopt"), json)


@app.command(epilog="Example: warren adopt delete ve-ANY")
def delete(context: typer.Context, name: RuleName) -> None:
    """Delete a rule. The endpoints that it has made are deleted, and their interfaces given back."""
    client(context).delete_adoption(name)
