"""warren mirror ..."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import Json, Timeout, Wait, await_hosts, client

app = typer.Typer(help="Copies of what endpoints send and receive, for an analyser.", no_args_is_help=True)
_COLLECTOR = re.compile(r"(?P<kind>gre|erspan|vxlan)(?P<version>2)?://(?P<address>[^/]+)(/(?P<key>\d+))?")
SOURCE = "NETWORK, NETWORK/ENDPOINT, or NETWORK/KEY=VALUE and NETWORK/KEY= for a label; may be repeated."
TARGET = "NETWORK/ENDPOINT, HOST:INTERFACE, gre://ADDRESS, erspan://ADDRESS (erspan2://), or vxlan://ADDRESS; /KEY behind the last two."


@app.command(epilog="Example: warren mirror create suspects --from amber/role=web --to h3:tap0 --vlan 356")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; a session of that name is changed.")],
    source: Annotated[list[str], typer.Option("--from", help=SOURCE)],
    to: Annotated[str, typer.Option("--to", help=TARGET)],
    direction: Annotated[str, typer.Option(help="in: what they send; out: what they receive; both.")] = "both",
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="Only TCP to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="Only UDP to this port.")] = None,
    vlan: Annotated[int | None, typer.Option(help="Put this VLAN tag on the copies.")] = None,
    snap: Annotated[int | None, typer.Option(help="Cut the copies to so many bytes.")] = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Copy packets of endpoints to an endpoint, an interface of a host, or a collector. A document can say more: warren apply."""
    agent = client(context)
    ports = {proto: port for proto, port in (("tcp", tcp), ("udp", udp)) if port is not None}
    if len(ports) > 1:
        raise Failure("--tcp and --udp: one of the two")
    match = next(({"proto": proto, f"{proto}_dst": port} for proto, port in ports.items()), None)
    body = {"name": name, "sources": [_source(text) for text in source], "direction": direction, "to": _target(to)}
    more = {"match": match, "vlan": vlan, "snap": snap}
    found = agent.post("/mirrors", body | {field: value for field, value in more.items() if value is not None})["mirror"]
    if wait:
        await_hosts(agent, timeout)
    if json:
        show.as_json(found)
    else:
        show.fields(found.items())


@app.command("list", epilog="Example: warren mirror list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the sessions."""
    found = client(context).get("/mirrors")["mirrors"]
    if json:
        show.as_json(found)
        return
    rows = [
        (
            m["name"],
            ", ".join(map(_shown, m["sources"])),
            m["direction"],
            _shown(m["to"]),
            m.get("match") or "",
            m.get("vlan", ""),
        )
        for m in found
    ]
    show.table(("NAME", "FROM", "DIRECTION", "TO", "MATCH", "VLAN"), rows, "no mirrors (warren mirror create)")


@app.command(epilog="Example: warren mirror delete suspects")
def delete(context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """End a session."""
    client(context).delete(f"/mirrors/{name}")


def _shown(data: dict[str, Any]) -> str:
    for kind in ("gre", "erspan", "vxlan"):
        if kind in data:
            version = data["version"] if data.get("version", 1) != 1 else ""
            return f"{kind}{version}://{data[kind]}{'/' + str(data['key']) if data.get('key') else ''}"
    if "host" in data:
        return f"{data['host']}:{data['interface']}"
    return "/".join(str(data[key]) for key in ("network", "endpoint", "label") if data.get(key))


def _source(text: str) -> dict[str, str]:
    network, slash, rest = text.partition("/")
    if not network or (slash and not rest):
        raise Failure(f"--from {text!r}: expected {SOURCE}")
    if not slash:
        return {"network": network}
    return {"network": network, "label": rest.removesuffix("=")} if "=" in rest else {"network": network, "endpoint": rest}


def _target(text: str) -> dict[str, Any]:
    if (told := _COLLECTOR.fullmatch(text)) is not None:
        more = {"key": int(told["key"])} if told["key"] else {}
        more |= {"version": 2} if told["version"] else {}
        return {told["kind"]: told["address"], **more}
    for separator, names in (("/", ("network", "endpoint")), (":", ("host", "interface"))):
        first, found, second = text.partition(separator)
        if found and first and second:
            return dict(zip(names, (first, second), strict=True))
    raise Failure(f"--to {text!r}: expected {TARGET}")
