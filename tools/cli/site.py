"""warren site ... and warren crypto ..."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, client, named, print_one
from warren.client import Client, Error
from warren.client.sites import EncryptedTunnel

app = typer.Typer(
    help="Sites: hosts of one site reach each other directly, hosts of different sites by encrypted tunnels.",
    no_args_is_help=True,
)
crypto = typer.Typer(help="Encrypted tunnels between hosts.", no_args_is_help=True)
TUNNEL_COLUMNS = ("HOST", "PEER", "CIPHER", "STATE", "HANDSHAKE", "RECEIVED", "SENT", "WHY")
SiteName = Annotated[str, typer.Argument(help="Name of the site.")]


@app.command(epilog="Example: warren site create bts1 --underlay-mtu 9000")
def create(
    context: typer.Context,
    name: SiteName,
    underlay_mtu: Annotated[
        int | None, typer.Option(help="Largest packet (bytes) between hosts of the site, if it is less than their interfaces'.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a site, or change one. A host also creates the site that its WARREN_SITE names, if that does not exist."""
    print_one(client(context).put_site(name, underlay_mtu=underlay_mtu), json)


@app.command("list", epilog="Example: warren site list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the sites and their hosts."""
    sites = client(context).sites()
    if json:
        show.as_json([site.raw for site in sites])
        return
    rows = [(site.name, site.underlay_mtu or "", ", ".join(site.hosts)) for site in sites]
    show.table(("NAME", "UNDERLAY MTU", "HOSTS"), rows, "no sites (warren site create NAME, or WARREN_SITE on a host)")


@app.command("show", epilog="Example: warren site show bts1")
def show_(context: typer.Context, name: SiteName, json: JsonOption = False) -> None:
    """Show one site and its hosts."""
    print_one(named(client(context).sites(), "site", name), json)


@app.command(epilog="Example: warren site delete bts1")
def delete(context: typer.Context, name: SiteName) -> None:
    """Delete a site; no host may be in it."""
    client(context).delete_site(name)


@crypto.command(epilog="Example: warren crypto status --host h1")
def status(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Only the tunnels of this host.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the encrypted tunnels of all hosts: cipher, whether each is up and why not, the age of its keys, its bytes."""
    agent = client(context)
    tunnels, silent = tunnels_of(agent, [host] if host is not None else [each.name for each in agent.hosts()])
    if host is not None and silent:
        raise silent[host]
    if json:
        show.as_json([{"host": name, **each.raw} for name, each in tunnels])
        return
    rows = [_row(name, each) for name, each in tunnels]
    rows += [(name, "", "", "unknown", "", "", "", str(error)) for name, error in silent.items()]
    show.table(TUNNEL_COLUMNS, rows, "no encrypted tunnels (hosts of different sites with an outside address have them)")


def tunnels_of(agent: Client, hosts: Iterable[str]) -> tuple[list[tuple[str, EncryptedTunnel]], dict[str, Error]]:
    """The encrypted tunnels of these hosts, with the name of each, and the errors of those that do not answer."""
    tunnels: list[tuple[str, EncryptedTunnel]] = []
    silent: dict[str, Error] = {}
    for name in hosts:
        try:
            tunnels += [(name, each) for each in agent.encryption(name)]
        except Error as error:
            silent[name] = error
    return tunnels, silent


def print_pairs(tunnels: Iterable[tuple[str, EncryptedTunnel]]) -> None:
    """Print each pair of hosts once for each cipher, as one of the two reports it: the host that reports it down, if one does."""
    pairs: dict[tuple[frozenset[str], str], tuple[str, EncryptedTunnel]] = {}
    for name, each in tunnels:
        key = frozenset((name, each.peer)), each.cipher
        if key not in pairs or (pairs[key][1].up and not each.up):
            pairs[key] = name, each
    if pairs:
        show.table(TUNNEL_COLUMNS, [_row(name, each) for name, each in pairs.values()], "")


def _row(host: str, tunnel: EncryptedTunnel) -> tuple[object, ...]:
    age = f"{tunnel.handshake_age_s} s" if tunnel.handshake_age_s is not None else "never"
    state = "up" if tunnel.up else "down"
    return host, tunnel.peer, tunnel.cipher, state, age, tunnel.received, tunnel.sent, tunnel.reason or ""


@crypto.command(epilog="Example: warren crypto rotate h1 h3")
def rotate(
    context: typer.Context,
    host: Annotated[str | None, typer.Argument(help="One host of a pair; without it, all pairs get new secrets.")] = None,
    peer: Annotated[str | None, typer.Argument(help="The other host of the pair.")] = None,
) -> None:
    """Give a pair of hosts, or all pairs, a new secret. No packet is lost."""
    if host is not None and peer is None:
        raise Failure("name both hosts of a pair, or none to rotate all secrets")
    for first, second in client(context).rotate_secrets((host, peer) if host is not None and peer is not None else None):
        print(f"rotated the secret of {first} and {second}")
