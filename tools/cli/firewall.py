"""warren firewall ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.context import JsonOption, client
from warren.client import Client, Error
from warren.client.firewall import Firewall

app = typer.Typer(help="The firewall on the outside interfaces of hosts.", no_args_is_help=True)


@app.command(epilog="Example: warren firewall guard")
def guard(context: typer.Context, json: JsonOption = False) -> None:
    """Drop tunnel packets in clear text, and accept everything else (the default)."""
    _print(client(context).put_firewall("guard"), json)


@app.command(epilog="Example: warren firewall allowlist --source 203.0.113.0/24 --source 2001:db8::/48")
def allowlist(
    context: typer.Context,
    source: Annotated[
        list[str], typer.Option(metavar="CIDR", help="A range of administrators; may be repeated, several with commas.")
    ] = [],  # noqa: B006
    confirm_within: Annotated[
        int | None, typer.Option(help="Revert the list after this many seconds unless it is confirmed (default: 60).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Accept only packets of other hosts and administrators, and replies. Hosts revert the list after 60 seconds unless `warren firewall confirm` follows."""
    sources = [part.strip() for each in source for part in each.split(",") if part.strip()]
    firewall = client(context).put_firewall("allowlist", sources=sources, confirm_within_s=confirm_within)
    _print(firewall, json)
    if firewall.proposal is not None and not json:
        print(f"on trial: reverted in {firewall.proposal.confirm_within_s} s unless you run: warren firewall confirm")


@app.command(epilog="Example: warren firewall confirm")
def confirm(context: typer.Context, json: JsonOption = False) -> None:
    """Keep the allow list that is on trial."""
    _print(client(context).confirm_firewall(), json)


@app.command(epilog="Example: warren firewall off")
def off(context: typer.Context, json: JsonOption = False) -> None:
    """Accept everything, even tunnel packets in clear text."""
    _print(client(context).put_firewall("off"), json)


@app.command("show", epilog="Example: warren firewall show")
def show_(context: typer.Context, json: JsonOption = False) -> None:
    """Show the settings, the mode in force on each host, and how many packets were dropped."""
    agent = client(context)
    firewall = agent.firewall()
    if json:
        show.as_json(firewall.raw)
        return
    _print(firewall, False)
    show.table(("HOST", "MODE", "TRIAL", "REFUSED", "GUARD"), _rows(agent), "no hosts")


def _rows(agent: Client) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for host in agent.hosts():
        try:
            at_host, guarded = agent.host_firewall(host.name), agent.dropped(host.name)
        except Error as error:
            rows.append((host.name, "unknown", "", "", str(error)))
            continue
        trial = f"{at_host.trial_left_s} s" if at_host.trial_left_s else ""
        rows.append((host.name, at_host.mode if at_host.applies else "no outside", trial, at_host.refused, sum(guarded.values())))
    return rows


def _print(firewall: Firewall, as_json: bool) -> None:
    if as_json:
        show.as_json(firewall.raw)
    else:
        show.fields((name, value) for name, value in firewall.raw.items() if value)
