"""Shared by the commands: options, the client, printing of one object, and waiting for the hosts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, TypeVar

import typer

from tools.cli import show
from tools.cli.client import Failure, Where, connect
from warren.client import Client, Endpoint, Meter, Mirror, Network
from warren.client.adoptions import Adoption
from warren.client.results import Result
from warren.client.sites import Site

EndpointRef = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name, NETWORK/NAME or id.")]
NetworkRef = Annotated[str, typer.Argument(metavar="NETWORK", help="Name or id.")]


def _structured(as_json: bool) -> bool:
    """--json, or a form of -o that prints data as well."""
    if as_json and not show.output.structured:
        show.output.format = "json"
    return show.output.structured


JsonOption = Annotated[bool, typer.Option("--json", callback=_structured, help="The same as -o json.")]
Selector = Annotated[
    str | None, typer.Option("--selector", "-l", metavar="LABELS", help="Only with these labels: KEY or KEY=VALUE, with commas.")
]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Only objects of this tenant's networks.")]
R = TypeVar("R", Network, Endpoint)
N = TypeVar("N", Meter, Mirror, Site, Adoption)


def named(results: Iterable[N], kind: str, name: str, command: str | None = None) -> N:
    """The result with that name. `command` lists results of its kind, if it is not called like the kind. Raises `Failure`."""
    for result in results:
        if result.name == name:
            return result
    raise Failure(f"{kind} {name!r} does not exist (warren {command or kind} list)")


def selected(results: Iterable[R], selector: str | None) -> list[R]:
    """The results with all labels of a selector. Raises `Failure`."""
    parts = [part.partition("=") for part in selector.split(",")] if selector is not None else []
    if any(not key for key, _, _ in parts):
        raise Failure(f"--selector {selector!r}: expected KEY or KEY=VALUE, several with commas between")
    return [
        result
        for result in results
        if all(key in result.labels and (not equals or result.labels[key] == value) for key, equals, value in parts)
    ]


Wait = Annotated[bool, typer.Option("--wait", help="Return when every host with a live controller has applied the change.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, max=50, help="Stop waiting after this many seconds (--wait).")]
Tcp = Annotated[int | None, typer.Option(metavar="PORT", help="A TCP SYN to this port.")]
Udp = Annotated[int | None, typer.Option(metavar="PORT", help="A UDP packet to this port.")]


def client(context: typer.Context) -> Client:
    """A client of the agent that --url, --lab or the environment names."""
    return connect(context.find_object(Where) or Where())


def await_hosts(agent: Client, timeout_s: float) -> None:
    """Wait until every host with a live controller has applied all changes written so far. Raises `Failure` after `timeout_s`."""
    if late := agent.status(wait_s=timeout_s).late:
        raise Failure(f"not applied after {timeout_s:g} s on: {', '.join(late)} (see warren status)")


def print_one(result: Result, as_json: bool, *, without: tuple[str, ...] = ()) -> None:
    """Print one object: its JSON as the agent gave it, or one line for each field. Warnings go to standard error."""
    warn(result)
    if as_json:
        show.as_json(result.raw)
    else:
        show.fields((name, value) for name, value in result.raw.items() if name not in (*without, "warnings"))


def warn(result: Result) -> None:
    """Print the agent's warnings about a written object."""
    for warning in result.warnings:
        print(f"warren: warning: {warning}", file=sys.stderr)


def labels(pairs: list[str]) -> dict[str, str] | None:
    """The values of --label KEY=VALUE; None without any. Raises `Failure`."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Failure(f"--label {pair!r}: expected KEY=VALUE")
        parsed[key] = value
    return parsed or None


def probe(tcp: int | None, udp: int | None, icmp: bool = False) -> tuple[str, int | None]:
    """Protocol and port of the packet that --tcp, --udp or --icmp describes. Raises `Failure` when they contradict each other."""
    if (tcp is not None) + (udp is not None) + icmp > 1:
        raise Failure("give one of --tcp, --udp, --icmp")
    if tcp is not None:
        return "tcp", tcp
    return ("udp", udp) if udp is not None else ("icmp", None)
