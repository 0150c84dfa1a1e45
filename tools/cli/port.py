"""warren port ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import Json, client, stated

app = typer.Typer(help="Interfaces of hosts on networks: a physical port, a bond, a tap. Whoever is behind it is on the network.",
                  no_args_is_help=True)  # fmt: skip
Interface = Annotated[str, typer.Argument(help="Name of the interface on the host, such as eno1.")]
Network = Annotated[str, typer.Argument(help="Name or id of the network.")]
Host = Annotated[str | None, typer.Option(help="Host that has it.")]


@app.command(epilog="Example: warren port add eno1 amber --host h1; a trunk: the same again with another network and --vlan 20")
def add(
    context: typer.Context,
    interface: Interface,
    network: Network,
    host: Host = None,
    vlan: Annotated[int | None, typer.Option(help="Tag of the network's frames on this interface (default: untagged).")] = None,
    acl: Annotated[list[str], typer.Option(help="ACL over what comes in; may be repeated, first match wins.")] = [],  # noqa: B006
    ofport: Annotated[int | None, typer.Option(help="OpenFlow port number (default: a free one).")] = None,
    coprocessor: Annotated[
        int | None,
        typer.Option(
            metavar="BASE",
            help="A network function that sends frames with the VLAN id BASE + N out of OpenFlow port N; "
            "1000 is FAUCET's base. Only ACLs send something to it.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Unique in the network (default: HOST.INTERFACE).")] = None,
    json: Json = False,
) -> None:
    """Put an interface of a host (the agent's own, unless --host) on a network. It may come later, go and come again."""
    agent = client(context)
    found = agent.get(f"/networks/{network}")["network"]["id"]
    body = stated(network_id=found, hostname=host, port=interface, vlan=vlan, acls=acl or None, ofport=ofport, name=name)
    if coprocessor is not None:
        body["coprocessor"] = {"vlan_vid_base": coprocessor}
    made = agent.post("/endpoints", body)["endpoint"]
    if json:
        show.as_json(made)
    else:
        show.fields(made.items())


@app.command("list", epilog="Example: warren port list --host h1")
def list_(context: typer.Context, host: Host = None, json: Json = False) -> None:
    """List the interfaces that are on networks."""
    found = [e for e in client(context).get("/endpoints", hostname=host, states=True)["endpoints"] if e["port"]]
    if json:
        show.as_json(found)
        return
    rows = [
        (e["hostname"], e["port"], e["vlan"] or _choosing(e) or "untagged", e["network"], ", ".join(e["acls"] or ()), e["ofport"],
         e["state"] or "-", e["reason"])
        for e in sorted(found, key=lambda e: (e["hostname"], e["port"], e["vlan"] or 0))
    ]  # fmt: skip
    columns = ("HOST", "INTERFACE", "VLAN", "NETWORK", "ACLS", "OPENFLOW PORT", "STATE", "WHY")
    show.table(columns, rows, "no interfaces (warren port add INTERFACE NETWORK)")


def _choosing(endpoint: dict[str, Any]) -> str:
    found = endpoint["coprocessor"]
    return f"coprocessor, {found['vlan_vid_base']} + port" if found else ""


@app.command(epilog="Example: warren port remove eno1 amber --host h1")
def remove(context: typer.Context, interface: Interface, network: Network, host: Host = None) -> None:
    """Take an interface of a host off a network; off the bridge, with the last of its networks."""
    agent = client(context)
    there = agent.get("/endpoints", hostname=host)["endpoints"]
    found = [e for e in there if e["port"] == interface and network in (e["network"], e["network_id"])]
    if not found:
        raise Failure(f"no {interface}{f' of {host}' if host else ''} is on network {network} (warren port list)")
    if len(found) > 1:
        raise Failure(f"{interface} of {', '.join(e['hostname'] for e in found)} are on network {network}: --host says which")
    agent.delete(f"/endpoints/{found[0]['id']}?hostname={found[0]['hostname']}")
