"""warren acl ..., warren meter ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import Json, Timeout, Wait, await_hosts, client

app = typer.Typer(help="What ports may send and receive: ordered rules in FAUCET's language, and more.", no_args_is_help=True)
meters = typer.Typer(help="Rate limits that rules of ACLs name.", no_args_is_help=True)
Origin = Annotated[str, typer.Argument(metavar="ACL", help="Its name.")]
WRITE = "write it into a document: warren apply -f FILE"


@app.command("list", epilog="Example: warren acl list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the ACLs and where they are used."""
    found = client(context).get("/acls")
    if json:
        show.as_json(found["acls"])
        return
    rows = [(a["name"], a["rules"], a["stateful"], a["used_by"], a["description"]) for a in found["acls"]]
    show.table(("NAME", "RULES", "STATEFUL", "USED BY", "DESCRIPTION"), rows, f"no ACLs ({WRITE})")
    for name in found["missing"]:
        print(f"ACL {name} does not exist, but is named: what names it is closed")


@app.command("show", epilog="Example: warren acl show web")
def show_(context: typer.Context, acl: Origin, json: Json = False) -> None:
    """Show an ACL: its rules, where it is used, how many packets each rule has met on all hosts."""
    found = client(context).get(f"/acls/{acl}")
    if json:
        show.as_json(found["acl"])
        return
    one = found["acl"]
    show.fields((key, one.get(key)) for key in ("name", "description", "stateful", "used_by"))
    rows = [(rule["number"], rule["packets"], *_rule(rule["rule"])) for rule in one["rules"]]
    show.table(("RULE", "PACKETS", "WHEN", "THEN"), rows, "")
    print("whatever no rule allows is dropped")
    for host in found["unasked"]:
        print(f"{host}: its agent does not answer; its packets are not counted")


@app.command(epilog="Example: warren acl check web --from web-1 --to db-1 --tcp 5432")
def check(
    context: typer.Context,
    acl: Origin,
    source: Annotated[str, typer.Option("--from", help="Endpoint that sends: name, NETWORK/NAME or id.")],
    target: Annotated[str, typer.Option("--to", help="Endpoint that should receive.")],
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="A TCP SYN to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="A UDP packet to this port.")] = None,
    json: Json = False,
) -> None:
    """What decides over a packet between two endpoints, and by which rule: by the specs, and by the switches. Exit code 1 when
    it is denied, 3 when the two do not agree."""
    if tcp is not None and udp is not None:
        raise Failure("say one of --tcp, --udp")
    proto, port = ("tcp", tcp) if tcp is not None else ("udp", udp) if udp is not None else ("icmp", None)
    found = client(context).post(f"/acls/{acl}/check", {"src": source, "dst": target, "proto": proto, "port": port})
    if json:
        show.as_json(found)
    else:
        _print_check(found)
    if not found["agree"]:
        raise typer.Exit(3)
    if not found["allow"]:
        raise typer.Exit(1)


@app.command("import", epilog="Example: warren acl import /etc/faucet/faucet.yaml --dry-run")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A faucet.yaml; its includes are read too.")],
    dry_run: Annotated[bool, typer.Option(help="Only tell what would be taken and what would change.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take ACLs, meters and their use on ports and VLANs from a faucet.yaml; says line by line what is taken and what is not."""
    from tools.cli import acl_import

    agent = client(context)
    found = acl_import.load(file)
    endpoints, networks, hosts = (agent.get(f"/{kind}")[kind] for kind in ("endpoints", "networks", "hosts"))
    document, notes = acl_import.document(found, endpoints, networks, hosts)
    for note in (*found.notes, *notes):
        print(f"{note.file}:{note.line}: {'taken' if note.taken else 'NOT taken'}: {note.path}: {note.text}")
    import json as text

    answer = agent.post("/apply", {"document": text.dumps(document), "dry_run": dry_run})
    for change in answer["changes"]:
        print(f"{change['action']} {change['kind']} {change['name']}" + (" (not done: --dry-run)" if dry_run else ""))
    if wait and not dry_run:
        await_hosts(agent, timeout)


@app.command(epilog="Example: warren acl delete web")
def delete(context: typer.Context, acl: Origin) -> None:
    """Delete an ACL that nothing uses."""
    client(context).delete(f"/acls/{acl}")


@meters.command("list", epilog="Example: warren meter list")
def list_meters(context: typer.Context, json: Json = False) -> None:
    """List the meters."""
    found = client(context).get("/meters")["meters"]
    if json:
        show.as_json(found)
        return
    rows = [(m["name"], m["meter_id"], f"{m['rate']} {'packets/s' if m['packets'] else 'kb/s'}", m["burst"] or "") for m in found]
    show.table(("NAME", "ID", "RATE", "BURST"), rows, f"no meters ({WRITE})")


_THEN = ("actions", "log", "allow_related")


def _rule(rule: dict[str, Any]) -> tuple[str, str]:
    """A rule as two lines of words."""
    when = ", ".join(_field(key, value) for key, value in rule.items() if key not in (*_THEN, "description", "cookie"))
    actions = rule.get("actions") or ({"allow": 1} if rule.get("allow_related") else {"allow": 0})
    then = ["log"] if rule.get("log") else []
    then += [f"{key} {_word(value)}" for key, value in actions.items() if key not in ("allow", "force_port_vlan")]
    allowed = actions.get("allow", 1 if "mirror" in actions else 0) == 1
    then.append("allow" if allowed else "drop" if not then or then == ["log"] else "nothing more")
    then += ["with what is related"] if rule.get("allow_related") else []
    return when or "always", ", ".join(then)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_word(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_word, value))
    return str(value)


def _field(name: str, value: Any) -> str:
    """Ethernet types are known by their hexadecimal names."""
    hexed = name in ("dl_type", "eth_type") and isinstance(value, int)
    return f"{name} {value:#06x}" if hexed else f"{name} {_word(value)}"


def _print_check(found: dict[str, Any]) -> None:
    for title, side in (("specs", found["by_specs"]), ("switches", found["by_switch"])):
        rules = ", ".join(found[f"by_{'specs' if title == 'specs' else 'switch'}"]["rules"]) or "no rule"
        print(f"{title:<9} {'allow' if side['allow'] else 'deny'} ({rules}) {side['reason']}".rstrip())
    if not found["agree"]:
        print("they do not agree: a host may lag behind (warren status), or this is a fault of Warren's")
