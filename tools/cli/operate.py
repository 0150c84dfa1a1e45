"""warren apply, export, status, trace, flows, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import Json, Timeout, Wait, await_hosts, client

SIZE_LIMIT = 8_388_608  # bytes; as specs.yamltext has it, which this command does not load
Host = Annotated[str, typer.Argument(help="The host's name.")]


def apply(
    context: typer.Context,
    file: Annotated[str, typer.Option("--file", "-f", help="A YAML document; - is standard input.")],
    prune: Annotated[bool, typer.Option(help="Delete what the document's sections no longer have.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only tell what would change.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Make the specs say what a document says."""
    agent = client(context)
    body = {"document": _read(file), "prune": prune, "dry_run": dry_run}
    if wait:
        body["wait_s"] = timeout
    try:
        answer = agent.post("/apply", body)
    except Failure as failure:  # what is wrong with the document begins with its line
        raise Failure(f"{file}: {failure}" if str(failure).startswith("line ") else str(failure)) from None
    changes = answer["changes"]
    if json:
        show.as_json(changes)
    else:
        _print_changes(changes)
        _print_pairs(answer.get("pairs", []), answer.get("pairs_not_compared", 0))
    if answer["late"]:
        raise Failure(f"not done after {timeout:g} s: {', '.join(answer['late'])} (warren status tells more)")


def _print_changes(changes: list[dict[str, Any]]) -> None:
    for change in changes:
        print(f"{change['action']} {change['kind']} {change['name']}")
        if change["action"] == "update":
            for field, value in change["fields"].items():
                print(f"    {field}: {value['old']} -> {value['new']}")
    if not changes:
        print("nothing to change")


def _print_pairs(pairs: list[dict[str, Any]], skipped: int) -> None:
    if pairs:
        rows = [(pair["src"], pair["dst"], ", ".join(pair["allowed"]), ", ".join(pair["denied"])) for pair in pairs]
        print("\nbetween endpoints this would change:")
        show.table(("FROM", "TO", "NEWLY ALLOWED", "NEWLY DENIED"), rows, "")
    if skipped:
        print(f"{skipped} pairs of endpoints were not compared: there are too many")


def export(context: typer.Context, json: Json = False) -> None:
    """Print all specs as a document that `apply` takes."""
    text = client(context).get("/export")
    if not json:
        print(text, end="")
        return
    import yaml

    show.as_json(yaml.safe_load(text))


def status(context: typer.Context, wait: Wait = False, timeout: Timeout = 30.0, json: Json = False) -> None:
    """Every host: who is alive, how far it has come, its endpoints, its problems."""
    agent = client(context)
    if wait:
        await_hosts(agent, timeout)
    found = agent.get("/status")
    if json:
        show.as_json(found["hosts"])
        return
    rows = [
        (
            h["name"],
            h["agent"],
            h["controller"],
            found["revision"],
            h["revision"],
            _counts(h["endpoints"]),
            _tunnels(h["tunnels"]),
            len(h["problems"]),
        )
        for h in found["hosts"]
    ]
    columns = ("HOST", "AGENT", "CONTROLLER", "WANTED", "APPLIED", "ENDPOINTS", "TUNNELS", "PROBLEMS")
    show.table(columns, rows, "no hosts (start warren-agent on one)")
    for host in found["hosts"]:
        for problem in host["problems"]:
            print(f"{host['name']}: {problem}")


def trace(
    context: typer.Context,
    src: Annotated[str, typer.Argument(help="Endpoint that sends: name, NETWORK/NAME or id.")],
    dst: Annotated[str, typer.Argument(help="Endpoint that should receive.")],
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="A TCP SYN to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="A UDP packet to this port.")] = None,
    icmp: Annotated[bool, typer.Option("--icmp", help="An ICMP echo request (this is the default).")] = False,
    json: Json = False,
) -> None:
    """Follow a packet through the tables of both hosts, without sending it."""
    if (tcp is not None) + (udp is not None) + icmp > 1:
        raise Failure("say one of --tcp, --udp, --icmp")
    proto, port = ("tcp", tcp) if tcp is not None else ("udp", udp) if udp is not None else ("icmp", None)
    found = client(context).post("/trace", {"src": src, "dst": dst, "proto": proto, "port": port})
    if json:
        show.as_json(found)
    else:
        print(found["text"].rstrip())
    if found["verdict"] != "delivered":
        raise typer.Exit(1)


def flows(context: typer.Context, host: Host, json: Json = False) -> None:
    """Dump a host's flows with the tables' names and what each flow exists for."""
    found = client(context).get(f"/hosts/{host}/flows")["flows"]
    if json:
        show.as_json(found)
        return
    rows = [(f["table"], f["priority"], f["packets"], f["origin"], f["match"], f["actions"]) for f in found]
    show.table(("TABLE", "PRIORITY", "PACKETS", "FOR", "MATCH", "ACTIONS"), rows, f"{host} has no flows")


def check(context: typer.Context, host: Host, json: Json = False) -> None:
    """Compare a host's flows with what the specs call for; exit code 1 when they differ."""
    found = client(context).get(f"/hosts/{host}/check")
    if json:
        show.as_json(found)
    else:
        print(f"{host}: {found['flows']} flows, {len(found['missing'])} missing, {len(found['unexpected'])} unexpected")
        for what in ("missing", "unexpected"):
            for line in found[what]:
                print(f"    {what}: {line}")
    if found["missing"] or found["unexpected"]:
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


def _tunnels(found: dict[str, Any]) -> str:
    """How many of those in use work, and which do not."""
    broken = found["broken"]
    states = [f"{found['known'] - len(broken)} up"] if found["known"] else []
    return " ".join([*states, *(f"{peer}:{state}" for peer, state in broken.items())])


def _counts(counts: dict[str, Any]) -> str:
    return " ".join(f"{count} {state}" for state, count in counts.items() if count) or "0"
