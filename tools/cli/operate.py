"""warren status, trace, flows, check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, Tcp, Timeout, Udp, Wait, await_hosts, client, probe
from tools.cli.site import print_pairs, tunnels_of
from warren.client import Host, Status, Tunnels
from warren.client.sites import EncryptedTunnel

LISTED = 20  # hosts that `warren status` lists one by one

HostName = Annotated[str, typer.Argument(help="Name of the host.")]


def status(
    context: typer.Context,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    every: Annotated[bool, typer.Option("--all", help="List all hosts, even those without problems.")] = False,
    json: JsonOption = False,
) -> None:
    """Show every host: agent and controller, revision of the specs, endpoints, tunnels, problems. With more than 20 hosts, those without
    problems are one line. Also show the encrypted tunnel of each pair of hosts: the age of the last handshake, and bytes.

    SPECS says whether a host's flows follow the newest specs: current, or how many revisions of etcd they are behind.
    """
    agent = client(context)
    if wait:
        await_hosts(agent, timeout)
    status = agent.status()
    outside = [host.name for host in status.hosts if host.raw.get("outside") and host.agent == "alive"]
    tunnels = tunnels_of(agent, outside)[0] if not status.etcd and (every or len(outside) <= LISTED) else []
    if json:
        show.as_json([_with_tunnels(host, tunnels, outside) for host in status.hosts])
    else:
        print_status(status, every)
        print_pairs(tunnels)
    if status.etcd:
        raise Failure(f"{status.etcd}; this is what the agent of {status.hosts[0].name} knows of its own host")


def _with_tunnels(host: Host, tunnels: Iterable[tuple[str, EncryptedTunnel]], outside: Container[str]) -> dict[str, object]:
    """A host as data; one with an outside address has its encrypted tunnels."""
    pairs = [each.raw for name, each in tunnels if name == host.name]
    return dict(host.raw) | ({"encryption": pairs} if host.name in outside else {})


def print_status(status: Status, every: bool = False) -> None:
    """Print hosts one by one, and then all problems. Of many hosts, those without problems are one line unless `every` is set."""
    is_short = every or len(status.hosts) <= LISTED
    listed = [host for host in status.hosts if is_short or not _is_well(host)]
    well = [] if is_short else [host for host in status.hosts if _is_well(host)]
    rows = [
        (h.name, h.agent, h.controller, _specs(h, status.revision), _counts(h.endpoints), _tunnels(h.tunnels), len(h.problems))
        for h in listed
    ]
    columns = ("HOST", "AGENT", "CONTROLLER", "SPECS", "ENDPOINTS", "TUNNELS", "PROBLEMS")
    if listed or not well:
        show.table(columns, rows, "no hosts (start warren-agent on one)")
    if well:
        endpoints = sum((Counter(host.endpoints) for host in well), Counter[str]())
        print(
            f"{len(well)} {'other hosts are' if listed else 'hosts are'} well and current, with endpoints: {_counts(endpoints)} (--all lists them)"
        )
    for host in status.hosts:
        for problem in host.problems:
            print(f"{host.name}: {problem}")
    for problem in status.problems:
        print(f"specs: {problem}")


def trace(
    context: typer.Context,
    src: Annotated[str, typer.Argument(help="Endpoint that sends: name, NETWORK/NAME or id.")],
    dst: Annotated[str, typer.Argument(help="Endpoint that should receive.")],
    tcp: Tcp = None,
    udp: Udp = None,
    icmp: Annotated[bool, typer.Option("--icmp", help="An ICMP echo request (the default).")] = False,
    source: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Sender's address instead of its own.")] = None,
    source_mac: Annotated[str | None, typer.Option("--from-mac", metavar="MAC", help="Sender's MAC instead of its own.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="Another address of DST, or one that it is allowed.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Follow a packet through the tables of both hosts, without sending it. Exit code 1 when it is dropped."""
    proto, port = probe(tcp, udp, icmp)
    traced = client(context).trace(src, dst, proto, port, src_address=source, src_mac=source_mac, dst_address=to)
    if json:
        show.as_json(traced.raw)
    else:
        print(traced.text.rstrip())
    if not traced.delivered:
        raise typer.Exit(1)


def flows(context: typer.Context, host: HostName, json: JsonOption = False) -> None:
    """Dump a host's flows with the tables' names and the origin of each flow."""
    flows = client(context).flows(host)
    if json:
        show.as_json([flow.raw for flow in flows])
        return
    rows = [(flow.table, flow.priority, flow.packets, flow.origin, flow.match, flow.actions) for flow in flows]
    show.table(("TABLE", "PRIORITY", "PACKETS", "FOR", "MATCH", "ACTIONS"), rows, f"{host} has no flows")


def check(context: typer.Context, host: HostName, json: JsonOption = False) -> None:
    """Compare a host with the specs: flows, ports, routes, namespaces. Exit code 1 when they differ."""
    checked = client(context).check(host)
    if json:
        show.as_json(checked.raw)
    else:
        print(
            f"{host}: {checked.flows} flows, {len(checked.missing)} missing, {len(checked.unexpected)} unexpected; other differences: {len(checked.differences)}"
        )
        for kind, lines in (("missing", checked.missing), ("unexpected", checked.unexpected), ("different", checked.differences)):
            for line in lines:
                print(f"    {kind}: {line}")
    if checked.missing or checked.unexpected or checked.differences:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Put the commands into the main application."""
    app.command(epilog="Example: warren status --wait")(status)
    app.command(epilog="Example: warren trace web-1 db-1 --tcp 5432")(trace)
    app.command(epilog="Example: warren flows h1")(flows)
    app.command(epilog="Example: warren check h1")(check)


def _specs(host: Host, newest: int) -> str:
    """Whether a host's flows follow the newest specs; unknown without a controller."""
    if host.controller != "alive" or host.revision is None:
        return "-"
    if host.current:
        return "current"
    return f"{newest - host.revision} behind" if newest > host.revision else "not connected"


def _tunnels(tunnels: Tunnels) -> str:
    """Return how many of the tunnels in use work, and the names of the broken ones."""
    states = [f"{tunnels.known - len(tunnels.broken)} up"] if tunnels.known else []
    return " ".join([*states, *(f"{peer}:{state}" for peer, state in tunnels.broken.items())])


def _is_well(host: Host) -> bool:
    """Return whether a host has no problem and is current."""
    alive = host.agent == host.controller == "alive" and host.connected and host.current
    return alive and not host.problems and not host.tunnels.broken and host.endpoints.keys() <= {"up"}


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{count} {state}" for state, count in counts.items() if count) or "0"
