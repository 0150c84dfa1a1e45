"""warren mirror ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, TenantOption, Timeout, Wait, await_hosts, client, named, print_one, probe

app = typer.Typer(help="Mirror sessions: copies of packets of endpoints, for an analyser.", no_args_is_help=True)
_COLLECTOR = re.compile(r"(?P<kind>gre|erspan|vxlan)(?P<version>2)?://(?P<address>[^/]+)(/(?P<key>\d+))?")
SOURCE = "NETWORK (TENANT/NETWORK/), NETWORK/ENDPOINT, or NETWORK/KEY=VALUE and NETWORK/KEY= for a label"
TARGET = (
    "NETWORK/ENDPOINT, HOST:INTERFACE, gre://ADDRESS, erspan://ADDRESS (erspan2://), or vxlan://ADDRESS; /KEY behind the last two"
)


@app.command(epilog="Example: warren mirror create suspects --from amber/role=web --to h3:tap0 --vlan 356")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the session; an existing one is changed.")],
    source: Annotated[list[str], typer.Option("--from", help=f"{SOURCE}; may be repeated.")],
    to: Annotated[str, typer.Option("--to", help=f"{TARGET}.")],
    direction: Annotated[str, typer.Option(help="in: packets that they send; out: packets that they receive; both.")] = "both",
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="Only TCP to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="Only UDP to this port.")] = None,
    vlan: Annotated[int | None, typer.Option(help="Put this VLAN tag on the copies.")] = None,
    snap: Annotated[int | None, typer.Option(help="Cut the copies to this many bytes.")] = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Copy packets of endpoints to an endpoint, an interface of a host, or a collector. A document has more options (warren apply)."""
    agent = client(context)
    proto, port = probe(tcp, udp)
    match = None if port is None else {"proto": proto, f"{proto}_dst": port}
    mirror = agent.put_mirror(
        name, sources=[_source(text) for text in source], to=_target(to), direction=direction, match=match, vlan=vlan, snap=snap
    )
    if wait:
        await_hosts(agent, timeout)
    print_one(mirror, json)


@app.command("list", epilog="Example: warren mirror list")
def list_(context: typer.Context, tenant: TenantOption = None, json: JsonOption = False) -> None:
    """List the sessions."""
    mirrors = client(context).mirrors(tenant)
    if json:
        show.as_json([mirror.raw for mirror in mirrors])
        return
    rows = [
        (m.name, ", ".join(map(_shown, m.sources)), m.direction, _shown(m.to), m.match or "", "" if m.vlan is None else m.vlan)
        for m in mirrors
    ]
    show.table(("NAME", "FROM", "DIRECTION", "TO", "MATCH", "VLAN"), rows, "no mirrors (warren mirror create)")


@app.command("show", epilog="Example: warren mirror show suspects")
def show_(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the session.")], json: JsonOption = False
) -> None:
    """Show one session."""
    print_one(named(client(context).mirrors(), "mirror", name), json)


@app.command(epilog="Example: warren mirror delete suspects")
def delete(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the session.")]) -> None:
    """End a session."""
    client(context).delete_mirror(name)


def _shown(data: Mapping[str, Any]) -> str:
    for kind in ("gre", "erspan", "vxlan"):
        if kind in data:
            version = data["version"] if data.get("version", 1) != 1 else ""
            return f"{kind}{version}://{data[kind]}{'/' + str(data['key']) if data.get('key') else ''}"
    if "host" in data:
        return f"{data['host']}:{data['interface']}"
    return "/".join(str(data[key]) for key in ("network", "endpoint", "label") if data.get(key))


def _source(text: str) -> dict[str, str]:
    place, equals, value = text.partition("=")
    network, slash, word = place.rpartition("/")
    if not slash and word and not equals:
        return {"network": word}
    if "/" in network and not word and not equals:
        return {"network": network}
    if not network or not word:
        raise Failure(f"--from {text!r}: expected {SOURCE}")
    return (
        {"network": network, "label": f"{word}={value}".removesuffix("=")} if equals else {"network": network, "endpoint": word}
    )


def _target(text: str) -> dict[str, Any]:
    if (collector := _COLLECTOR.fullmatch(text)) is not None:
        more = {"key": int(collector["key"])} if collector["key"] else {}
        more |= {"version": 2} if collector["version"] else {}
        return {collector["kind"]: collector["address"], **more}
    for separator, names in () if "://" in text else (("/", ("network", "endpoint")), (":", ("host", "interface"))):
        first, _, second = text.rpartition(separator)
        if first and second:
            return dict(zip(names, (first, second), strict=True))
    raise Failure(f"--to {text!r}: expected {TARGET}")
