"""warren endpoint ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.context import Json, client, labels, stated

app = typer.Typer(help="Ports on networks: one for each interface of a container.", no_args_is_help=True)
Origin = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name, NETWORK/NAME or id.")]


@app.command(epilog="Example: warren endpoint create amber --netns /run/netns/web-1 --name web-1 --host h1")
def create(
    context: typer.Context,
    network: Annotated[str, typer.Argument(help="Name or id of the network.")],
    netns: Annotated[str | None, typer.Option(help="Path of the container's namespace, such as /proc/PID/ns/net.")] = None,
    name: Annotated[str | None, typer.Option(help="Unique in the network.")] = None,
    host: Annotated[str | None, typer.Option(help="Host of the container (default: the agent's own).")] = None,
    ip: Annotated[str | None, typer.Option(help="IPv4 address (default: a free one).")] = None,
    ipv6: Annotated[str | None, typer.Option(help="IPv6 address (default: a free one).")] = None,
    mac: Annotated[str | None, typer.Option(help="MAC address (default: from the address).")] = None,
    interface: Annotated[str | None, typer.Option(help="Name of the interface (default: the next free ethN).")] = None,
    parent: Annotated[str | None, typer.Option(help="Endpoint on whose port it is, under the tag --vlan: a trunk.")] = None,
    vlan: Annotated[int | None, typer.Option(help="Tag on the parent's port (default: the network's, else 100).")] = None,
    acl: Annotated[list[str], typer.Option(help="ACL over what it sends; may be repeated, first match wins.")] = [],  # noqa: B006
    label: Annotated[list[str], typer.Option(help="KEY=VALUE; may be repeated.")] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Plug a namespace into a network; done when packets can flow. Without --netns only the record is made. On a network with
    DHCP (warren network create --dhcp) the interface comes up without the endpoint's addresses: a client in the container asks."""
    agent = client(context)
    body = stated(
        network_id=agent.get(f"/networks/{network}")["network"]["id"], name=name, hostname=host, ipv4_address=ip,
        ipv6_address=ipv6, mac_address=mac, interface=interface, labels=labels(label), acls=acl or None, parent=parent, vlan=vlan,
    )  # fmt: skip
    body |= {"activate": netns is not None}
    if netns is not None:
        body["activate_params"] = {"ns_handle_path": netns, "set_addr": True, "move_veth": True}
    _print(agent.post("/endpoints", body)["endpoint"], json)


@app.command("list", epilog="Example: warren endpoint list --network amber --host h1")
def list_(
    context: typer.Context,
    network: Annotated[str | None, typer.Option(help="Only of this network (name or id).")] = None,
    host: Annotated[str | None, typer.Option(help="Only of this host.")] = None,
    json: Json = False,
) -> None:
    """List the endpoints."""
    found = client(context).get("/endpoints", network_id=network, hostname=host, states=True)["endpoints"]
    if json:
        show.as_json(found)
        return
    rows = [
        (e["name"], e["id"], e["network"], e["hostname"], e["target_veth_ip"], e["target_veth_ipv6"],
         e["target_veth_mac"], e["target_veth_name"], e["state"] or "-")
        for e in found
    ]  # fmt: skip
    columns = ("NAME", "ID", "NETWORK", "HOST", "IPV4", "IPV6", "MAC", "INTERFACE", "STATE")
    show.table(columns, rows, "no endpoints (warren endpoint create NETWORK --netns PATH)")


@app.command("show", epilog="Example: warren endpoint show amber/web-1")
def show_(context: typer.Context, endpoint: Origin, json: Json = False) -> None:
    """Show one endpoint and its state."""
    _print(client(context).get(f"/endpoints/{endpoint}")["endpoint"], json)


@app.command(epilog="Example: warren endpoint delete web-1")
def delete(context: typer.Context, endpoint: Origin) -> None:
    """Unplug and forget an endpoint, on whichever host it is."""
    agent = client(context)
    found = agent.get(f"/endpoints/{endpoint}")["endpoint"]
    agent.delete(f"/endpoints/{found['id']}?hostname={found['hostname']}")


def _print(endpoint: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(endpoint)
    else:
        show.fields(endpoint.items())
