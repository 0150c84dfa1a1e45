"""warren admin-overlay ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, Timeout, Wait, await_hosts, client
from warren.client.admin import AdminOverlay

app = typer.Typer(
    help="The admin overlay: a network whose members are the hosts themselves, across all sites.", no_args_is_help=True
)
AddressOption = Annotated[
    list[str],
    typer.Option("--address", metavar="HOST=ADDRESS", help="The address of a host (default: a free one); may be repeated."),
]
Acls = Annotated[list[str], typer.Option(help="ACL for what hosts send on it; may be repeated.")]
OverlayMtu = Annotated[int | None, typer.Option(help="MTU in bytes (default: the MTU of the smallest path between hosts).")]


@app.command(epilog="Example: warren admin-overlay init 10.44.44.0/24 --address h1=10.44.44.11")
def init(
    context: typer.Context,
    ranges: Annotated[
        list[str],
        typer.Argument(metavar="RANGE...", help="Range of its addresses in CIDR form; at most one of each version of IP."),
    ],
    address: AddressOption = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Name of the network (default: admin).")] = None,
    vni: Annotated[
        int | None, typer.Option(help="VXLAN network identifier (default: 2, or a free one if a network has it).")
    ] = None,
    vlan: Annotated[int | None, typer.Option(help="VLAN id on physical ports (default: 2).")] = None,
    mtu: OverlayMtu = None,
    profile: Annotated[str | None, typer.Option(help="Tunnel profile (default: default).")] = None,
    acl: Acls = [],  # noqa: B006
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Create the admin overlay. Every host gets an address of the range, even hosts that join later."""
    v6 = [each for each in ranges if ":" in each]
    v4 = [each for each in ranges if ":" not in each]
    if len(v4) > 1 or len(v6) > 1:
        raise Failure(f"RANGE {' '.join(ranges)}: expected one range, or one of each version of IP")
    agent = client(context)
    overlay = agent.create_admin_overlay(
        *v4, ipv6_range=v6[0] if v6 else None, addresses=_addresses(address) or None, name=name, vxlan_vni=vni, vlan=vlan, mtu=mtu,
        profile=profile, default_acl=acl or None,
    )  # fmt: skip
    if wait:
        await_hosts(agent, timeout)
        overlay = agent.admin_overlay()
    _print(overlay, json)


@app.command(epilog="Example: warren admin-overlay update --address h2=10.44.44.12")
def update(
    context: typer.Context,
    address: AddressOption = [],  # noqa: B006
    any_address: Annotated[
        list[str], typer.Option(metavar="HOST", help="Give this host any free address instead of a fixed one; may be repeated.")
    ] = [],  # noqa: B006
    vlan: Annotated[int | None, typer.Option(help="VLAN id on physical ports.")] = None,
    mtu: OverlayMtu = None,
    acl: Acls = [],  # noqa: B006
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Change the admin overlay; settings without an option stay. Hosts that have joined meanwhile have their addresses already."""
    agent = client(context)
    fields = {name: value for name, value in (("vlan", vlan), ("mtu", mtu), ("default_acl", acl or None)) if value is not None}
    changed: dict[str, list[str] | None] = {**_addresses(address), **dict.fromkeys(any_address)}
    overlay = agent.update_admin_overlay(addresses=changed or None, **fields)
    if wait:
        await_hosts(agent, timeout)
        overlay = agent.admin_overlay()
    _print(overlay, json)


@app.command(epilog="Example: warren admin-overlay info")
def info(context: typer.Context, json: JsonOption = False) -> None:
    """Show the admin overlay: the address of each host, and whether its endpoint is up."""
    _print(client(context).admin_overlay(), json)


@app.command(epilog="Example: warren admin-overlay delete")
def delete(context: typer.Context) -> None:
    """Delete the admin overlay, and the hosts' addresses with it."""
    client(context).delete_admin_overlay()


def _addresses(pairs: list[str]) -> dict[str, list[str]]:
    """The values of --address HOST=ADDRESS. Raises `Failure`."""
    addresses: dict[str, list[str]] = {}
    for pair in pairs:
        host, equals, value = pair.partition("=")
        if not host or not equals or not value:
            raise Failure(f"--address {pair!r}: expected HOST=ADDRESS, such as h1=10.44.44.11")
        addresses[host] = [*addresses.get(host, []), value]
    return addresses


def _print(overlay: AdminOverlay, as_json: bool) -> None:
    if as_json:
        show.as_json(overlay.raw)
        return
    show.fields((name, value) for name, value in overlay.raw.items() if name not in ("hosts", "addresses"))
    rows = [(each.host, ", ".join(each.addresses), each.mac or "", each.state, each.reason or "") for each in overlay.hosts]
    show.table(("HOST", "ADDRESS", "MAC", "STATE", "WHY"), rows, "no hosts")
