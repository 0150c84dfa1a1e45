"""warren service ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import publish, show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, TenantOption, Timeout, Wait, await_hosts, client, print_one

app = typer.Typer(help="Services: ports of the hosts that spread new connections over several endpoints.", no_args_is_help=True)
ServiceName = Annotated[str, typer.Argument(help="Name of the service.")]
EXPECTED = "HOST_PORT:PORT, with /udp or /sctp behind, such as 8080:80"


@app.command(epilog="Example: warren service add shop amber 8080:80 --label role=web")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the service; an existing one is changed.")],
    network: Annotated[str, typer.Argument(help="Its network (name or id), in mode nat.")],
    ports: Annotated[str, typer.Argument(metavar="HOST_PORT:PORT", help=EXPECTED)],
    label: Annotated[str | None, typer.Option(help="All endpoints with this label: KEY or KEY=VALUE.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="An endpoint (name or id); may be repeated.")] = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Make a port of every host that has endpoints of the network lead to several endpoints, on any host."""
    parsed = publish.parse(ports)
    if parsed.host_ip is not None or not isinstance(parsed.host_port, int):
        raise Failure(f"{ports!r}: expected {EXPECTED}")
    agent = client(context)
    service = agent.put_service(
        name, network, parsed.host_port, parsed.port, proto=parsed.proto, label=label, endpoints=endpoint or None
    )
    if wait:
        await_hosts(agent, timeout)
    print_one(service, json)


@app.command("list", epilog="Example: warren service list")
def list_(context: typer.Context, tenant: TenantOption = None, json: JsonOption = False) -> None:
    """List the services."""
    services = client(context).services(tenant)
    if json:
        show.as_json([service.raw for service in services])
        return
    rows = [
        (s.name, s.network, s.host_port, s.proto, s.port, s.label or ", ".join(s.endpoints), list(s.members)) for s in services
    ]
    columns = ("NAME", "NETWORK", "HOST PORT", "PROTOCOL", "PORT", "FOR", "MEMBERS")
    show.table(columns, rows, "no services (warren service add NAME NETWORK 8080:80 --label KEY=VALUE)")


@app.command("show", epilog="Example: warren service show shop --json")
def show_service(context: typer.Context, name: ServiceName, json: JsonOption = False) -> None:
    """Show one service and its members."""
    print_one(client(context).service(name), json)


@app.command(epilog="Example: warren service delete shop")
def delete(context: typer.Context, name: ServiceName) -> None:
    """Delete a service. Its port no longer leads anywhere."""
    client(context).delete_service(name)
