"""warren netns ..., warren attach, warren detach: containers of systemd-nspawn, and others by namespace, machine name or pid."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, client, labels, print_one

app = typer.Typer(
    help="Network namespaces that outlive their containers, each with an interface on a network.", no_args_is_help=True
)
DIRECTORY = "/run/netns/"

NetworkOption = Annotated[str, typer.Option(help="Name or id of the network.")]
HostNameOption = Annotated[str | None, typer.Option(help="Host (default: the agent's own).")]
InterfaceOption = Annotated[str, typer.Option(help="Name of the interface in the namespace.")]
IpOption = Annotated[str | None, typer.Option(help="IPv4 address (default: a free one).")]
Ipv6Option = Annotated[str | None, typer.Option(help="IPv6 address (default: a free one).")]
MacOption = Annotated[str | None, typer.Option(help="MAC address (default: derived from the address).")]
AclOption = Annotated[list[str], typer.Option(help="ACL for packets that it sends; may be repeated, the first match wins.")]
LabelOption = Annotated[list[str], typer.Option(help="KEY=VALUE; may be repeated.")]
MachineOption = Annotated[str | None, typer.Option(help="Name of the machine, as machinectl lists it.")]
PidOption = Annotated[int | None, typer.Option(min=1, help="A process in the container.")]
NetnsOption = Annotated[str | None, typer.Option(help="Path of the namespace, or its name below /run/netns.")]


@app.command(
    epilog="Example: warren netns create web1 --network blue; systemd-nspawn --network-namespace-path=/run/netns/web1 -D ROOT"
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the namespace below /run/netns, and of the endpoint.")],
    network: NetworkOption,
    host: HostNameOption = None,
    interface: InterfaceOption = "host0",
    ip: IpOption = None,
    ipv6: Ipv6Option = None,
    mac: MacOption = None,
    acl: AclOption = [],  # noqa: B006
    label: LabelOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Make a namespace with an interface on a network. Both outlive the containers that use them, and come back after a reboot with the same
    MAC, address and OpenFlow port."""
    agent = client(context)
    endpoint = agent.create_endpoint(
        network, netns=DIRECTORY + name, keep_netns=True, name=name, host=host, interface=interface, ipv4=ip, ipv6=ipv6, mac=mac,
        acls=acl or None, labels=labels(label),
    )  # fmt: skip
    print_one(endpoint, json)


@app.command("list", epilog="Example: warren netns list --host h1")
def list_(context: typer.Context, host: HostNameOption = None, json: JsonOption = False) -> None:
    """List the namespaces that Warren keeps."""
    endpoints = [e for e in client(context).endpoints(host=host, states=True) if e.keep_netns]
    if json:
        show.as_json([endpoint.raw for endpoint in endpoints])
        return
    rows = [
        (e.netns.rpartition("/")[2], e.host, e.network, e.interface, e.ipv4, e.ipv6, e.mac, e.ofport, e.state) for e in endpoints
    ]
    columns = ("NAME", "HOST", "NETWORK", "INTERFACE", "IPV4", "IPV6", "MAC", "OPENFLOW PORT", "STATE")
    show.table(columns, rows, "no namespaces (warren netns create NAME --network NETWORK)")


@app.command(epilog="Example: warren netns delete web1")
def delete(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the namespace.")], host: HostNameOption = None
) -> None:
    """Remove a namespace and its interfaces. No container may run in it."""
    agent = client(context)
    endpoints = [e for e in agent.endpoints(host=host) if e.netns.rpartition("/")[::2] == (DIRECTORY[:-1], name)]
    kept = {e.host for e in endpoints if e.keep_netns}
    if not kept:
        raise Failure(f"namespace {name!r} is not one of Warren's (warren netns list)")
    if len(kept) > 1:
        raise Failure(f"namespace {name!r} is on several hosts ({', '.join(sorted(kept))}): name one (--host)")
    for endpoint in sorted((e for e in endpoints if e.host in kept), key=lambda e: e.keep_netns):
        agent.delete_endpoint(endpoint.id)


def attach(
    context: typer.Context,
    network: NetworkOption,
    machine: MachineOption = None,
    pid: PidOption = None,
    netns: NetnsOption = None,
    host: HostNameOption = None,
    interface: InterfaceOption = "host0",
    name: Annotated[str | None, typer.Option(help="Unique in the network (default: the machine's name).")] = None,
    ip: IpOption = None,
    ipv6: Ipv6Option = None,
    mac: MacOption = None,
    acl: AclOption = [],  # noqa: B006
    label: LabelOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Give a running container an interface on a network. A container that machinectl knows gets it again at each start."""
    _require_one(machine, pid, netns)
    endpoint = client(context).create_endpoint(
        network, machine=machine, pid=pid, netns=_path(netns), host=host, interface=interface, name=name or machine, ipv4=ip,
        ipv6=ipv6, mac=mac, acls=acl or None, labels=labels(label),
    )  # fmt: skip
    print_one(endpoint, json)


def detach(
    context: typer.Context,
    machine: MachineOption = None,
    pid: PidOption = None,
    netns: NetnsOption = None,
    network: Annotated[str | None, typer.Option(help="Only the interface on this network (name or id).")] = None,
    interface: Annotated[str | None, typer.Option(help="Only the interface of this name.")] = None,
    host: HostNameOption = None,
) -> None:
    """Remove a container's interfaces on networks: all of them, or one."""
    _require_one(machine, pid, netns)
    agent = client(context)
    path = f"/proc/{pid}/ns/net" if pid is not None else _path(netns)
    chosen = [
        endpoint
        for endpoint in agent.endpoints(host=host)
        if (endpoint.machine == machine if machine is not None else endpoint.netns == path)
        and network in (None, endpoint.network, endpoint.network_id)
        and interface in (None, endpoint.interface)
    ]
    subject = f"machine {machine}" if machine is not None else f"namespace {path}"
    if not chosen:
        raise Failure(f"{subject} has no such interface on a network (warren endpoint list)")
    if len({endpoint.host for endpoint in chosen}) > 1:
        raise Failure(f"{subject} is on several hosts: name one (--host)")
    for endpoint in chosen:
        agent.delete_endpoint(endpoint.id)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="netns")
    main.command(epilog="Example: warren attach --machine web --network blue")(attach)
    main.command(epilog="Example: warren detach --machine web")(detach)


def _require_one(*ways: object) -> None:
    if sum(way is not None for way in ways) != 1:
        raise Failure("give one of --machine, --pid, --netns")


def _path(netns: str | None) -> str | None:
    return DIRECTORY + netns if netns is not None and "/" not in netns else netns
