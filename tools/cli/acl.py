"""warren acl ..., warren meter ..."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.context import JsonOption, Tcp, Timeout, Udp, Wait, await_hosts, client, named, print_one, probe
from warren.client import AclCheck

app = typer.Typer(
    help="ACLs: ordered rules that say which packets ports may send and receive, in FAUCET's language and more.",
    no_args_is_help=True,
)
meters = typer.Typer(help="Meters: rate limits for rules of ACLs.", no_args_is_help=True)
AclName = Annotated[str, typer.Argument(metavar="ACL", help="Name of the ACL.")]
WRITE = "declare them in a document: warren apply -f FILE"


@app.command("list", epilog="Example: warren acl list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the ACLs and where they are used."""
    listed = client(context).acls()
    if as_json:
        show.as_json([one.raw for one in listed.acls])
        return
    rows = [(one.name, one.rules, one.stateful, list(one.used_by), one.description) for one in listed.acls]
    show.table(("NAME", "RULES", "STATEFUL", "USED BY", "DESCRIPTION"), rows, f"no ACLs ({WRITE})")
    for name in listed.missing:
        print(f"ACL {name} does not exist; the endpoints that name it are closed")


@app.command("show", epilog="Example: warren acl show web")
def show_(context: typer.Context, acl: AclName, as_json: JsonOption = False) -> None:
    """Show an ACL: its rules, where it is used, how many packets each rule has matched on all hosts."""
    one = client(context).acl(acl)
    if as_json:
        show.as_json(one.raw)
        return
    show.fields((key, one.raw.get(key)) for key in ("name", "description", "stateful", "used_by"))
    rows = [(rule.number, rule.packets, *_rule(rule.rule)) for rule in one.rules]
    show.table(("RULE", "PACKETS", "WHEN", "THEN"), rows, "")
    print("packets that no rule allows are dropped")
    for host in one.unreachable_hosts:
        print(f"{host}: its agent does not answer; its packets are not counted")


@app.command(epilog="Example: warren acl check web --from web-1 --to db-1 --tcp 5432")
def check(
    context: typer.Context,
    acl: AclName,
    source: Annotated[str, typer.Option("--from", help="Endpoint that sends: name, NETWORK/NAME or id.")],
    target: Annotated[str, typer.Option("--to", help="Endpoint that should receive.")],
    tcp: Tcp = None,
    udp: Udp = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a packet between two endpoints is allowed, by the specs and by the switches, and name the rules.

    Exit code 1 when the packet is denied, 3 when specs and switches do not agree.
    """
    checked = client(context).check_acl(acl, source, target, *probe(tcp, udp))
    if as_json:
        show.as_json(checked.raw)
    else:
        _print_check(checked)
    if not checked.agree:
        raise typer.Exit(3)
    if not checked.allow:
        raise typer.Exit(1)


@app.command("import", epilog="Example: warren acl import /etc/faucet/faucet.yaml --dry-run")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A faucet.yaml; its includes are read too.")],
    dry_run: Annotated[bool, typer.Option(help="Print what would be imported and changed, and change nothing.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Import ACLs, meters and their uses on ports and VLANs from a faucet.yaml; print what is in force, what is NOT, and what is harmless.

    Exit code 3 when a policy of the file is not in force.
    """
    from tools.cli import acl_import

    agent = client(context)
    imported = acl_import.load(file)
    networks = [dict(network.raw) | {"name": network.name} for network in agent.networks()]
    document, notes = acl_import.document(imported, [e.raw for e in agent.endpoints()], networks, [h.raw for h in agent.hosts()])
    notes += acl_import.reconsidered(imported, document)
    for change in agent.apply(json.dumps(document), dry_run=dry_run).changes:
        print(f"{change.action} {change.kind} {change.name}" + (" (not done: --dry-run)" if dry_run else ""))
    if wait and not dry_run:
        await_hosts(agent, timeout)
    for line in acl_import.summary(notes):  # last, so that it is on the screen
        print(line)
    if any(note.outcome is acl_import.NOT_IN_FORCE for note in notes):
        raise typer.Exit(3)


@app.command(epilog="Example: warren acl delete web")
def delete(context: typer.Context, acl: AclName) -> None:
    """Delete an ACL that nothing uses."""
    client(context).delete_acl(acl)


@meters.command("list", epilog="Example: warren meter list")
def list_meters(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the meters."""
    listed = client(context).meters()
    if as_json:
        show.as_json([meter.raw for meter in listed])
        return
    rows = [(m.name, m.meter_id, f"{m.rate} {'packets/s' if m.packets else 'kb/s'}", m.burst or "") for m in listed]
    show.table(("NAME", "ID", "RATE", "BURST"), rows, f"no meters ({WRITE})")


@meters.command("show", epilog="Example: warren meter show slow")
def show_meter(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the meter.")], as_json: JsonOption = False
) -> None:
    """Show one meter."""
    print_one(named(client(context).meters(), "meter", name), as_json)


_THEN = ("actions", "log", "allow_related")


def _rule(rule: Mapping[str, Any]) -> tuple[str, str]:
    """Return a rule as two texts: its match and its actions."""
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
    """A match as text; Ethernet types in hexadecimal."""
    hexed = name in ("dl_type", "eth_type") and isinstance(value, int)
    return f"{name} {value:#06x}" if hexed else f"{name} {_word(value)}"


def _print_check(checked: AclCheck) -> None:
    for title, decision in (("specs", checked.by_specs), ("switches", checked.by_switch)):
        rules = ", ".join(decision.rules) or "no rule"
        print(f"{title:<9} {'allow' if decision.allow else 'deny'} ({rules}) {decision.reason}".rstrip())
    if not checked.agree:
        print("specs and switches do not agree: a host may lag behind (warren status), or this is a bug in Warren")
