"""warren endpoint ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.context import EndpointRef, JsonOption, Selector, TenantOption, client, labels, print_one, selected

app = typer.Typer(help="Endpoints: ports on networks, one for each interface of a container.", no_args_is_help=True)


@app.command(epilog="Example: warren endpoint create amber --netns /run/netns/web-1 --name web-1 --host h1")
def create(
    context: typer.Context,
    network: Annotated[str, typer.Argument(help="Name or id of the network.")],
    netns: Annotated[str | None, typer.Option(help="Path of the container's namespace, such as /proc/PID/ns/net.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the endpoint, unique in the network.")] = None,
    host: Annotated[str | None, typer.Option(help="Host of the container (default: the agent's own).")] = None,
    ip: Annotated[str | None, typer.Option(help="IPv4 address (default: a free one).")] = None,
    ipv6: Annotated[str | None, typer.Option(help="IPv6 address (default: a free one).")] = None,
    mac: Annotated[str | None, typer.Option(help="MAC address (default: derived from the address).")] = None,
    interface: Annotated[str | None, typer.Option(help="Name of the interface (default: the next free ethN).")] = None,
    iface_id: Annotated[
        str | None,
        typer.Option(help="Id under which a hypervisor (libvirt, Neutron) puts the interface on the bridge, now or later."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="Endpoint whose port also carries this one, under the tag --vlan (a trunk).")
    ] = None,
    vlan: Annotated[int | None, typer.Option(help="Tag on the parent's port (default: the network's, else 100).")] = None,
    acl: Annotated[list[str], typer.Option(help="ACL for packets that it sends; may be repeated, the first match wins.")] = [],  # noqa: B006
    label: Annotated[list[str], typer.Option(help="KEY=VALUE; may be repeated.")] = [],  # noqa: B006
    allow: Annotated[
        list[str],
        typer.Option(metavar="ADDRESS[,MAC]", help="Address or range that it may have besides its own; may be repeated."),
    ] = [],  # noqa: B006
    alias: Annotated[list[str], typer.Option(help="A further name in DNS; may be repeated.")] = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Plug a namespace into a network; return when packets can flow.

    Without --netns only the record is made. On a network with DHCP (warren network create --dhcp) the interface comes up without addresses,
    and a DHCP client in the container must request them.
    """
    agent = client(context)
    endpoint = agent.create_endpoint(
        network, netns=netns, name=name, host=host, ipv4=ip, ipv6=ipv6, mac=mac, interface=interface, labels=labels(label),
        acls=acl or None, parent=parent, vlan=vlan, allowed=allow or None, aliases=alias or None, iface_id=iface_id,
    )  # fmt: skip
    print_one(endpoint, json)


@app.command("list", epilog="Example: warren endpoint list --network amber --host h1")
def list_(
    context: typer.Context,
    network: Annotated[str | None, typer.Option(help="Only endpoints of this network (name or id).")] = None,
    host: Annotated[str | None, typer.Option(help="Only endpoints of this host.")] = None,
    tenant: TenantOption = None,
    selector: Selector = None,
    json: JsonOption = False,
) -> None:
    """List the endpoints."""
    endpoints = selected(client(context).endpoints(network, host, states=True, tenant=tenant), selector)
    if json:
        show.as_json([endpoint.raw for endpoint in endpoints])
        return
    rows = [(e.name, e.id, e.network, e.host, e.ipv4, e.ipv6, e.mac, e.interface, e.state or "-") for e in endpoints]
    columns = ("NAME", "ID", "NETWORK", "HOST", "IPV4", "IPV6", "MAC", "INTERFACE", "STATE")
    show.table(columns, rows, "no endpoints (warren endpoint create NETWORK --netns PATH)")


@app.command("show", epilog="Example: warren endpoint show amber/web-1")
def show_(context: typer.Context, endpoint: EndpointRef, json: JsonOption = False) -> None:
    """Show one endpoint and its state."""
    print_one(client(context).endpoint(endpoint), json)


@app.command(epilog="Example: warren endpoint delete web-1")
def delete(
    context: typer.Context,
    endpoint: EndpointRef,
    force: Annotated[bool, typer.Option(help="Delete the record of an endpoint whose host is dead.")] = False,
) -> None:
    """Unplug and delete an endpoint, whichever host it is on."""
    client(context).delete_endpoint(endpoint, force=force)
