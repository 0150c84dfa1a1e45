"""warren network ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import dhcp_options, show
from tools.cli.client import Failure
from tools.cli.context import (
    JsonOption,
    NetworkRef,
    Selector,
    TenantOption,
    Timeout,
    Wait,
    await_hosts,
    client,
    labels,
    print_one,
    selected,
)

app = typer.Typer(help="Isolated layer 2 networks. Two networks may use the same addresses.", no_args_is_help=True)
HIDDEN = ("ns_handle_path",)  # always empty: SAND has a namespace per network


@app.command(epilog="Example: warren network create amber --ip-range 10.0.0.0/24 --wait")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the network: letters, digits, '.', '_', '-'.")],
    ip_range: Annotated[str | None, typer.Option(help="IPv4 range in CIDR form (default: 10.0.0.0/24).")] = None,
    gateway: Annotated[str | None, typer.Option(help="Gateway with prefix length (default: the first address).")] = None,
    ipv6_range: Annotated[str | None, typer.Option(help="IPv6 range in CIDR form.")] = None,
    ipv6_gateway: Annotated[str | None, typer.Option(help="IPv6 gateway with prefix length.")] = None,
    vni: Annotated[int | None, typer.Option(help="VXLAN network identifier (default: a free one).")] = None,
    mtu: Annotated[int | None, typer.Option(help="MTU in bytes, at most what the underlay carries.")] = None,
    vlan: Annotated[int | None, typer.Option(help="VLAN id on physical ports and trunks (default: 100).")] = None,
    vlan_transparent: Annotated[bool, typer.Option(help="Let containers use VLAN tags of their own.")] = False,
    default_acl: Annotated[list[str], typer.Option(help="ACL for endpoints without one of their own; may be repeated.")] = [],  # noqa: B006
    vlan_out_acl: Annotated[list[str], typer.Option(help="ACL for packets that endpoints receive; may be repeated.")] = [],  # noqa: B006
    mode: Annotated[
        str, typer.Option(help="flat: no way out; nat: out with the host's addresses; routed: with their own.")
    ] = "flat",
    nat_acl: Annotated[list[str], typer.Option(help="ACL for packets that come in through the gateway; may be repeated.")] = [],  # noqa: B006
    preallocate: Annotated[
        int | None, typer.Option(help="How many endpoints each host keeps ready, for faster attaches.")
    ] = None,
    ct_limit: Annotated[
        int | None,
        typer.Option(
            help="How many connections a host tracks at once (default: 16384, or what WARREN_CT_LIMIT of its agent says)."
        ),
    ] = None,
    host_access: Annotated[
        str | None,
        typer.Option(
            help="What containers reach of hosts and etcd: none but published ports (none, the default), also DNS (dns), or everything (all)."
        ),
    ] = None,
    dhcp: Annotated[
        bool,
        typer.Option(
            help="Serve DHCP and router advertisements; interfaces come up without addresses, and clients in containers request them."
        ),
    ] = False,
    dhcp_external: Annotated[
        bool,
        typer.Option(
            help="A DHCP server behind an interface of the network (warren port add) gives the addresses; needs mode flat and no range."
        ),
    ] = False,
    dns: Annotated[list[str], typer.Option(help="Name server in DHCP answers; may be repeated.")] = [],  # noqa: B006
    domain: Annotated[str | None, typer.Option(help="Domain in DHCP answers.")] = None,
    dns_server: Annotated[
        bool, typer.Option("--dns-server", help="Serve DNS for names of endpoints at the gateway's address.")
    ] = False,
    dhcp_route: Annotated[list[str], typer.Option(help="RANGE=NEXT_HOP, a route in DHCP answers; may be repeated.")] = [],  # noqa: B006
    dhcp_lease_s: Annotated[int | None, typer.Option(help="How many seconds a DHCP lease lasts (default: 3600).")] = None,
    reserve: Annotated[
        list[str], typer.Option(help="MAC=ADDRESS[,ADDRESS]: addresses of the endpoint with that MAC; may be repeated.")
    ] = [],  # noqa: B006
    dhcp_pool: Annotated[
        str | None,
        typer.Option(
            help="FIRST-LAST[,SECONDS]: IPv4 addresses of endpoints without a reservation, and how long a lease of them lasts (default: 30 s); "
            "none: they get no address."
        ),
    ] = None,
    ntp: Annotated[list[str], typer.Option(help="Time server in DHCP answers; may be repeated.")] = [],  # noqa: B006
    search: Annotated[list[str], typer.Option(help="Domain to search in DHCP answers; may be repeated.")] = [],  # noqa: B006
    boot_server: Annotated[str | None, typer.Option(help="Network boot: address of the server of the boot files.")] = None,
    boot_file: Annotated[str | None, typer.Option(help="Network boot: path or URL of the boot file.")] = None,
    boot_file_for: Annotated[
        list[str],
        typer.Option(
            help="KIND=FILE, the boot file of bios, efi-ia32, efi-x86_64, efi-arm64, http-x86_64, http-arm64 or ipxe; may be repeated."
        ),
    ] = [],  # noqa: B006
    root_path: Annotated[str | None, typer.Option(help="Network boot: the root file system (DHCP option 17).")] = None,
    label: Annotated[list[str], typer.Option(help="KEY=VALUE; may be repeated.")] = [],  # noqa: B006
    tenant: Annotated[str | None, typer.Option(help="Tenant that owns it; its VNI comes from the tenant's range.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Tunnel profile: which hosts the network joins, by which UDP port, and whether encrypted.")
    ] = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Create a network."""
    if dhcp and dhcp_external:
        raise Failure("give --dhcp (the controller answers) or --dhcp-external (an external server answers), not both")
    agent = client(context)
    network = agent.create_network(
        name, ip_range=ip_range, gateway=gateway, ipv6_range=ipv6_range, ipv6_gateway=ipv6_gateway, vxlan_vni=vni, mtu=mtu,
        vlan=vlan, vlan_transparent=vlan_transparent or None, labels=labels(label), tenant=tenant, profile=profile, default_acl=default_acl or None,
        vlan_out_acl=vlan_out_acl or None, mode=mode, nat_acl=nat_acl or None, ct_limit=ct_limit, host_access=host_access, preallocate=preallocate,
        dhcp="external" if dhcp_external else dhcp or None, dns=dns or None, domain=domain, dns_server=dns_server or None, dhcp_lease_s=dhcp_lease_s,
        dhcp_routes=[dict(zip(("to", "via"), route.partition("=")[::2], strict=True)) for route in dhcp_route] or None,
        reservations=dhcp_options.reservations(reserve), dhcp_pool=dhcp_options.pool(dhcp_pool), ntp=ntp or None, search=search or None,
        boot=dhcp_options.boot(boot_server, boot_file, boot_file_for, root_path),
    )  # fmt: skip
    if wait:
        await_hosts(agent, timeout)
    print_one(network, json, without=HIDDEN)


@app.command("list", epilog="Example: warren network list --json | jq -r '.[].name'")
def list_(
    context: typer.Context,
    selector: Selector = None,
    tenant: TenantOption = None,
    json: JsonOption = False,
) -> None:
    """List the networks."""
    networks = selected(client(context).networks(tenant), selector)
    if json:
        show.as_json([network.raw for network in networks])
        return
    rows = [(n.name, n.id, n.vxlan_vni, n.ip_range, n.ipv6_range, n.mode, n.labels) for n in networks]
    show.table(("NAME", "ID", "VNI", "IPV4", "IPV6", "MODE", "LABELS"), rows, "no networks (warren network create NAME)")


@app.command("show", epilog="Example: warren network show amber")
def show_(context: typer.Context, network: NetworkRef, json: JsonOption = False) -> None:
    """Show one network."""
    print_one(client(context).network(network), json, without=HIDDEN)


@app.command(epilog="Example: warren network delete amber")
def delete(context: typer.Context, network: NetworkRef, wait: Wait = False, timeout: Timeout = 30.0) -> None:
    """Delete a network; it must have no endpoints."""
    agent = client(context)
    agent.delete_network(network)
    if wait:
        await_hosts(agent, timeout)
