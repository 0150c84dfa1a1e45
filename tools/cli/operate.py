"""warren apply, export, status, trace, flows, check."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, Tcp, Timeout, Udp, Wait, await_hosts, client, probe
from warren.client import Applied, Invalid, Tunnels

SIZE_LIMIT = 8_388_608  # bytes of a document, as in specs/documents/text.py, which would take long to import
HostName = Annotated[str, typer.Argument(help="Name of the host.")]


def apply(
    context: typer.Context,
    file: Annotated[str, typer.Option("--file", "-f", help="A YAML document; - is standard input.")],
    prune: Annotated[bool, typer.Option(help="Delete the objects that the document's sections do not have.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would change, and change nothing.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Make the specs equal a YAML document."""
    agent = client(context)
    document = _read(file)
    try:
        applied = agent.apply(document, prune=prune, dry_run=dry_run, wait_s=timeout if wait else 0.0)
    except Invalid as error:  # a mistake in the document
        raise Failure(f"{file}: {error}") from None
    if json:
        show.as_json([change.raw for change in applied.changes])
    else:
        print_changes(applied)
        _print_pairs(applied)
    if applied.late:
        raise Failure(f"not done after {timeout:g} s: {', '.join(applied.late)} (see warren status)")


def print_changes(applied: Applied, suffix: str = "") -> None:
    """A line for each change, and one for each field that differs."""
    for change in applied.changes:
        print(f"{change.action} {change.kind} {change.name}{suffix}")
        if change.action == "update":
            for field, value in change.fields.items():
                print(f"    {field}: {show.cell(value['old'], 'none')} -> {show.cell(value['new'], 'none')}")
    if not applied.changes:
        print("nothing to change")


def _print_pairs(applied: Applied) -> None:
    if applied.pairs:
        rows = [(pair.src, pair.dst, ", ".join(pair.allowed), ", ".join(pair.denied)) for pair in applied.pairs]
        print("\nbetween endpoints this would change:")
        show.table(("FROM", "TO", "NEWLY ALLOWED", "NEWLY DENIED"), rows, "")
    if applied.pairs_not_compared:
        print(f"{applied.pairs_not_compared} pairs of endpoints were not compared: there are too many")


def export(context: typer.Context, json: JsonOption = False) -> None:
    """Print all specs as a document that `apply` takes."""
    text = client(context).export()
    if not json:
        print(text, end="")
        return
    from specs.documents.text import load  # only here: PyYAML takes long to import

    show.as_json(load(text, size_limit=sys.maxsize))


def status(context: typer.Context, wait: Wait = False, timeout: Timeout = 30.0, json: JsonOption = False) -> None:
    """Show every host: agent and controller, revision of the specs, endpoints, tunnels, problems.

    WANTED is the newest revision of the specs, APPLIED the revision that the host's flows are made from.
    """
    agent = client(context)
    if wait:
        await_hosts(agent, timeout)
    status = agent.status()
    if json:
        show.as_json([host.raw for host in status.hosts])
        return
    rows = [
        (h.name, h.agent, h.controller, status.revision, h.revision, _counts(h.endpoints), _tunnels(h.tunnels), len(h.problems))
        for h in status.hosts
    ]
    columns = ("HOST", "AGENT", "CONTROLLER", "WANTED", "APPLIED", "ENDPOINTS", "TUNNELS", "PROBLEMS")
    show.table(columns, rows, "no hosts (start warren-agent on one)")
    for host in status.hosts:
        for problem in host.problems:
            print(f"{host.name}: {problem}")


def trace(
    context: typer.Context,
    src: Annotated[str, typer.Argument(help="Endpoint that sends: name, NETWORK/NAME or id.")],
    dst: Annotated[str, typer.Argument(help="Endpoint that should receive.")],
    tcp: Tcp = None,
    udp: Udp = None,
    icmp: Annotated[bool, typer.Option("--icmp", help="An ICMP echo request (the default).")] = False,
    json: JsonOption = False,
) -> None:
    """Follow a packet through the tables of both hosts, without sending it. Exit code 1 when it is dropped."""
    traced = client(context).trace(src, dst, *probe(tcp, udp, icmp))
    if json:
        show.as_json(traced.raw)
    else:
        print(traced.text.rstrip())
    if not traced.delivered:
        raise typer.Exit(1)


def flows(context: typer.Context, host: HostName, json: JsonOption = False) -> None:
    """Dump a host's flows with the tables' names and what each flow exists for."""
    flows = client(context).flows(host)
    if json:
        show.as_json([flow.raw for flow in flows])
        return
    rows = [(flow.table, flow.priority, flow.packets, flow.origin, flow.match, flow.actions) for flow in flows]
    show.table(("TABLE", "PRIORITY", "PACKETS", "FOR", "MATCH", "ACTIONS"), rows, f"{host} has no flows")


def check(context: typer.Context, host: HostName, json: JsonOption = False) -> None:
    """Compare a host with what the specs call for: flows, ports, routes, namespaces. Exit code 1 when they differ."""
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
    app.command(epilog="Example: warren apply -f examples/demo.yaml --dry-run")(apply)
    app.command(epilog="Example: warren export > specs.yaml")(export)
    app.command(epilog="Example: warren status --wait")(status)
    app.command(epilog="Example: warren trace web-1 db-1 --tcp 5432")(trace)
    app.command(epilog="Example: warren flows h1")(flows)
    app.command(epilog="Example: warren check h1")(check)


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read(SIZE_LIMIT + 1) if file == "-" else _head(Path(file))
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if len(raw) > SIZE_LIMIT:
        raise Failure(f"{file}: longer than {SIZE_LIMIT} bytes")
    return text


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIZE_LIMIT + 1)


def _tunnels(tunnels: Tunnels) -> str:
    """How many of the tunnels in use work, and the broken ones."""
    states = [f"{tunnels.known - len(tunnels.broken)} up"] if tunnels.known else []
    return " ".join([*states, *(f"{peer}:{state}" for peer, state in tunnels.broken.items())])


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{count} {state}" for state, count in counts.items() if count) or "0"
