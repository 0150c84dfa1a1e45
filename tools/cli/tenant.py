"""warren tenant ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, client, print_one

app = typer.Typer(help="Tenants: who owns which VNIs and VLAN ids.", no_args_is_help=True)
TenantName = Annotated[str, typer.Argument(help="Name of the tenant.")]
VniOption = Annotated[
    str | None, typer.Option(metavar="RANGES", help="Its VNIs, such as 5000-5099,7000; no other tenant's networks use them.")
]
VlanOption = Annotated[str | None, typer.Option(metavar="RANGES", help="Its VLAN ids, such as 100-199.")]
LimitOption = Annotated[int | None, typer.Option(help="How many networks it may have.")]
TenantAcls = Annotated[list[str], typer.Option(help="ACL for what all its endpoints send, after their own; may be repeated.")]


@app.command(epilog="Example: warren tenant create acme --vni 5000-5099,7000 --vlan 100-199 --max-networks 20")
def create(
    context: typer.Context,
    name: TenantName,
    vni: VniOption = None,
    vlan: VlanOption = None,
    max_networks: LimitOption = None,
    acl: TenantAcls = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Create a tenant. Its ranges must be free: no tenant and no network uses them."""
    agent = client(context)
    if any(tenant.name == name for tenant in agent.tenants()):
        raise Failure(f"tenant {name} exists already: warren tenant update {name}")
    print_one(agent.put_tenant(name, vni=vni, vlan=vlan, max_networks=max_networks, acls=acl or None), json)


@app.command(epilog="Example: warren tenant update acme --vni 5000-5199 --remove vlan")
def update(
    context: typer.Context,
    name: TenantName,
    vni: VniOption = None,
    vlan: VlanOption = None,
    max_networks: LimitOption = None,
    acl: TenantAcls = [],  # noqa: B006
    remove: Annotated[
        list[str],
        typer.Option(help="Take this away: vni, vlan, max-networks or acls; may be repeated."),
    ] = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Change a tenant; what is not given stays."""
    given = {"vni": vni, "vlan": vlan, "max_networks": max_networks, "acls": acl or None}
    fields = {field: value for field, value in given.items() if value is not None}
    removed = [field.replace("-", "_") for field in remove]
    if unknown := [field for field in remove if field.replace("-", "_") not in given]:
        raise Failure(f"--remove {unknown[0]!r}: expected vni, vlan, max-networks or acls")
    if twice := sorted(fields.keys() & set(removed)):
        raise Failure(f"--remove {twice[0].replace('_', '-')}: it is given as well")
    print_one(client(context).update_tenant(name, **fields, **dict.fromkeys(removed)), json)


@app.command("list", epilog="Example: warren tenant list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the tenants."""
    tenants = client(context).tenants()
    if json:
        show.as_json([tenant.raw for tenant in tenants])
        return
    rows = [(t.name, t.vni, t.vlan, len(t.networks), t.max_networks, ", ".join(t.acls)) for t in tenants]
    show.table(
        ("NAME", "VNI", "VLAN", "NETWORKS", "AT MOST", "ACLS"), rows, "no tenants (warren tenant create NAME --vni RANGES)"
    )


@app.command("show", epilog="Example: warren tenant show acme")
def show_(context: typer.Context, name: TenantName, json: JsonOption = False) -> None:
    """Show one tenant and its networks."""
    print_one(client(context).tenant(name), json)


@app.command(epilog="Example: warren tenant delete acme")
def delete(context: typer.Context, name: TenantName) -> None:
    """Delete a tenant; it must have no networks."""
    client(context).delete_tenant(name)
