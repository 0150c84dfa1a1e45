"""warren network ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.context import Json, Timeout, Wait, await_hosts, client, labels, stated

app = typer.Typer(help="Isolated layer 2 networks; two of them may use the same addresses.", no_args_is_help=True)
Origin = Annotated[str, typer.Argument(metavar="NETWORK", help="Name or id.")]


@app.command(epilog="Example: warren network create amber --ip-range 10.0.0.0/24 --wait")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Unique; letters, digits, '.', '_', '-'.")],
    ip_range: Annotated[str | None, typer.Option(help="IPv4 range in CIDR form (default: 10.0.0.0/24).")] = None,
    gateway: Annotated[str | None, typer.Option(help="Gateway with prefix length (default: the first address).")] = None,
    ipv6_range: Annotated[str | None, typer.Option(help="IPv6 range in CIDR form.")] = None,
    ipv6_gateway: Annotated[str | None, typer.Option(help="IPv6 gateway with prefix length.")] = None,
    vni: Annotated[int | None, typer.Option(help="VXLAN network identifier (default: a free one).")] = None,
    mtu: Annotated[int | None, typer.Option(help="MTU in bytes, at most what the underlay carries.")] = None,
    vlan: Annotated[int | None, typer.Option(help="VLAN id on physical ports and trunks (default: 100).")] = None,
    vlan_transparent: Annotated[bool, typer.Option(help="Let containers use VLAN tags of their own.")] = False,
    default_acl: Annotated[list[str], typer.Option(help="ACL of endpoints that name none; may be repeated.")] = [],  # noqa: B006
    vlan_out_acl: Annotated[list[str], typer.Option(help="ACL over what endpoints receive; may be repeated.")] = [],  # noqa: B006
    mode: Annotated[str, typer.Option(help="flat: no way out; nat: out by the host's addresses; routed: by its own.")] = "flat",
    nat_acl: Annotated[list[str], typer.Option(help="ACL over what comes in by the gateway; may be repeated.")] = [],  # noqa: B006
    preallocate: Annotated[int | None, typer.Option(help="Endpoints that each host keeps ready, for faster attaches.")] = None,
    ct_limit: Annotated[int | None, typer.Option(help="Tracked connections at once on a host (default: no limit).")] = None,
    dhcp: Annotated[
        bool,
        typer.Option(help="Answer DHCP and router solicitations; endpoints are plugged in without addresses and ask for them."),
    ] = False,
    dhcp_external: Annotated[
        bool,
        typer.Option(
            help="A DHCP server behind an interface of the network (warren port add) gives the addresses; mode flat, no range."
        ),
    ] = False,
    dns: Annotated[list[str], typer.Option(help="Name server that DHCP tells; may be repeated.")] = [],  # noqa: B006
    domain: Annotated[str | None, typer.Option(help="Domain that DHCP tells.")] = None,
    dhcp_route: Annotated[list[str], typer.Option(help="RANGE=NEXT_HOP that DHCP tells; may be repeated.")] = [],  # noqa: B006
    dhcp_lease_s: Annotated[int | None, typer.Option(help="Seconds that a lease lasts (default: 3600).")] = None,
    label: Annotated[list[str], typer.Option(help="KEY=VALUE; may be repeated.")] = [],  # noqa: B006
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Create a network."""
    if dhcp and dhcp_external:
        raise typer.BadParameter("--dhcp or --dhcp-external: the controller answers, or a server outside does")
    agent = client(context)
    body = stated(
        name=name, ip_range=ip_range, gateway=gateway, ipv6_range=ipv6_range, ipv6_gateway=ipv6_gateway,
        vxlan_vni=vni, mtu=mtu, vlan=vlan, vlan_transparent=vlan_transparent or None, labels=labels(label), default_acl=default_acl or None, vlan_out_acl=vlan_out_acl or None, mode=mode, nat_acl=nat_acl or None, ct_limit=ct_limit, preallocate=preallocate,
        dhcp="external" if dhcp_external else dhcp or None, dns=dns or None, domain=domain, dhcp_lease_s=dhcp_lease_s,
        dhcp_routes=[dict(zip(("to", "via"), route.partition("=")[::2], strict=True)) for route in dhcp_route] or None,
    )  # fmt: skip
    network = agent.post("/networks", body)["network"]
    if wait:
        await_hosts(agent, timeout)
    _print(network, json)


@app.command("list", epilog="Example: warren network list --json | jq -r '.[].name'")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the networks."""
    networks = client(context).get("/networks")["networks"]
    if json:
        show.as_json(networks)
        return
    rows = [(n["name"], n["id"], n["vxlan_vni"], n["ip_range"], n["ipv6_range"], n["mode"], n["labels"]) for n in networks]
    show.table(("NAME", "ID", "VNI", "IPV4", "IPV6", "MODE", "LABELS"), rows, "no networks (warren network create NAME)")


@app.command("show", epilog="Example: warren network show amber")
def show_(context: typer.Context, network: Origin, json: Json = False) -> None:
    """Show one network."""
    _print(client(context).get(f"/networks/{network}")["network"], json)


@app.command(epilog="Example: warren network delete amber")
def delete(context: typer.Context, network: Origin, wait: Wait = False, timeout: Timeout = 30.0) -> None:
    """Delete a network; it must have no endpoints."""
    agent = client(context)
    agent.delete(f"/networks/{network}")
    if wait:
        await_hosts(agent, timeout)


def _print(network: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(network)
    else:
        show.fields((k, v) for k, v in network.items() if k != "ns_handle_path")
