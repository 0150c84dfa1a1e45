"""warren port ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, NetworkRef, TenantOption, client, print_one
from warren.client import Endpoint, Invalid, NotFound

app = typer.Typer(help="Interfaces of hosts on networks: a physical port, a bond, a tap. Machines behind them are on the network.",
                  no_args_is_help=True)  # fmt: skip
Interface = Annotated[str, typer.Argument(help="Name of the interface on the host, such as eno1.")]
HostOption = Annotated[str | None, typer.Option(help="Host of the interface.")]


@app.command(epilog="Example: warren port add eno1 amber --host h1; a trunk: the same again with another network and --vlan 20")
def add(
    context: typer.Context,
    interface: Interface,
    network: NetworkRef,
    host: HostOption = None,
    vlan: Annotated[int | None, typer.Option(help="Tag of the network's frames on this interface (default: untagged).")] = None,
    acl: Annotated[list[str], typer.Option(help="ACL for packets that come in; may be repeated, the first match wins.")] = [],  # noqa: B006
    ofport: Annotated[int | None, typer.Option(help="OpenFlow port number (default: a free one).")] = None,
    coprocessor: Annotated[
        int | None,
        typer.Option(
            metavar="BASE",
            help="The interface leads to a network function, whose frames with the VLAN id BASE + N go out of OpenFlow port N; "
            "FAUCET's base is 1000. Only ACLs send packets to it.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Unique in the network (default: HOST.INTERFACE).")] = None,
    json: JsonOption = False,
) -> None:
    """Put an interface of a host (default: the agent's own) on a network. The interface may appear later."""
    agent = client(context)
    endpoint = agent.add_port(
        interface,
        network,
        host=host,
        vlan=vlan,
        acls=acl or None,
        ofport=ofport,
        name=name,
        coprocessor=None if coprocessor is None else {"vlan_vid_base": coprocessor},
    )
    print_one(endpoint, json)


@app.command("list", epilog="Example: warren port list --host h1")
def list_(context: typer.Context, host: HostOption = None, tenant: TenantOption = None, json: JsonOption = False) -> None:
    """List the interfaces that are on networks."""
    ports = client(context).ports(host, tenant)
    if json:
        show.as_json([port.raw for port in ports])
        return
    rows = [
        (e.host, e.port, _vlan(e), e.network, ", ".join(e.acls or ()), e.ofport, e.state or "-", e.reason)
        for e in sorted(ports, key=lambda e: (e.host, e.port or "", e.vlan or 0))
    ]
    columns = ("HOST", "INTERFACE", "VLAN", "NETWORK", "ACLS", "OPENFLOW PORT", "STATE", "WHY")
    show.table(columns, rows, "no interfaces (warren port add INTERFACE NETWORK)")


def _vlan(endpoint: Endpoint) -> str:
    """Return which frames of the interface belong to the network, as text."""
    if endpoint.vlan:
        return str(endpoint.vlan)
    return f"coprocessor, {endpoint.coprocessor['vlan_vid_base']} + port" if endpoint.coprocessor else "untagged"


@app.command(epilog="Example: warren port remove eno1 amber --host h1")
def remove(context: typer.Context, interface: Interface, network: NetworkRef, host: HostOption = None) -> None:
    """Remove an interface of a host from a network. Without any network, the interface leaves the bridge."""
    try:
        client(context).remove_port(interface, network, host=host)
    except NotFound as error:
        raise Failure(f"{error} (warren port list)") from None
    except Invalid as error:
        raise Failure(f"{error} (--host)" if error.path == "host" else str(error)) from None
