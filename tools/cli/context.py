"""What the commands share: the client, and waiting for the hosts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tools.cli.client import Client, Failure, Where

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when every live host has applied it.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, max=50, help="How many seconds --wait waits.")]


def client(context: typer.Context) -> Client:
    """The agent that the user means."""
    where = context.find_object(Where)
    return Client(where or Where())


def await_hosts(agent: Client, timeout_s: float) -> None:
    """Return when every host whose controller lives has applied all that is written now."""
    answer = agent.get("/status", wait_s=timeout_s)
    late = [host["name"] for host in answer["hosts"] if host["controller"] == "alive" and not host["current"]]
    if late:
        raise Failure(f"not applied after {timeout_s:g} s on: {', '.join(late)} (warren status tells more)")


def labels(pairs: list[str]) -> dict[str, str]:
    """--label KEY=VALUE, any number of times."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Failure(f"--label {pair!r}: expected KEY=VALUE")
        found[key] = value
    return found


def stated(**values: Any) -> dict[str, Any]:
    """A request's body without what the user has not said."""
    return {name: value for name, value in values.items() if value not in (None, {}, "")}
