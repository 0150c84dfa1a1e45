"""warren profile ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, client, print_one
from tools.cli.documents import read

app = typer.Typer(
    help="Tunnel profiles: which hosts networks span, by which UDP port, and whether encrypted.", no_args_is_help=True
)
ProfileRef = Annotated[str, typer.Argument(metavar="PROFILE", help="Name of the profile.")]
PortOption = Annotated[
    int | None,
    typer.Option(help="UDP port of its tunnels, which no other profile may have (default: the next free one from 4789 on)."),
]
ListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The host with this address takes tunnel packets only to this address; 0.0.0.0: to any of its addresses.",
    ),
]
HostsOption = Annotated[
    str | None,
    typer.Option(metavar="HOSTS", help="all, site:NAME or names of hosts (which may join later), with commas between."),
]
MtuOption = Annotated[
    str | None, typer.Option(metavar="auto|BYTES", help="MTU of endpoints (default: auto, the MTU of the smallest path).")
]
EncryptionOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|always|never",
        help="auto: encrypted between sites; always: inside a site, too; never: unencrypted, and only inside a site.",
    ),
]
CipherOption = Annotated[
    str | None, typer.Option(metavar="wireguard|ipsec", help="How its tunnels are encrypted (default: wireguard).")
]


@app.command(epilog="Example: warren profile create customers --hosts h1,h2 --port 14790 --encryption always")
def create(
    context: typer.Context,
    name: ProfileRef,
    hosts: HostsOption = None,
    port: PortOption = None,
    listen: ListenOption = None,
    mtu: MtuOption = None,
    encryption: EncryptionOption = None,
    cipher: CipherOption = None,
    json: JsonOption = False,
) -> None:
    """Create a tunnel profile. Networks name it: warren network create --profile."""
    agent = client(context)
    if any(profile.name == name for profile in agent.profiles()):
        raise Failure(f"profile {name} exists already: warren profile update {name}")
    profile = agent.put_profile(
        name, hosts=hosts, port=port, listen=listen, mtu=_mtu(mtu), encryption=encryption, cipher=cipher
    )  # fmt: skip
    print_one(profile, json)


@app.command(epilog="Example: warren profile update customers --hosts all")
def update(
    context: typer.Context,
    name: ProfileRef,
    hosts: HostsOption = None,
    port: PortOption = None,
    listen: ListenOption = None,
    mtu: MtuOption = None,
    encryption: EncryptionOption = None,
    cipher: CipherOption = None,
    json: JsonOption = False,
) -> None:
    """Change a tunnel profile; settings without an option stay. A new port interrupts its networks until all hosts use it."""
    agent = client(context)
    old = agent.profile(name)
    profile = agent.put_profile(
        name,
        hosts=hosts if hosts is not None else old.hosts,
        port=port if port is not None else old.port,
        listen=listen if listen is not None else old.listen,
        mtu=_mtu(mtu) if mtu is not None else old.mtu,
        encryption=encryption or old.encryption,
        cipher=cipher or old.cipher,
        rule=old.rule,
    )
    print_one(profile, json)


def _mtu(text: str | None) -> int | str | None:
    """Return a number as int, and other text as it is, for the agent to judge."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


@app.command("list", epilog="Example: warren profile list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the tunnel profiles; `default` always exists."""
    profiles = client(context).profiles()
    if json:
        show.as_json([profile.raw for profile in profiles])
        return
    rows = [(p.name, p.port, ", ".join(p.hosts), p.encryption, p.cipher, p.endpoint_mtu, len(p.networks)) for p in profiles]
    show.table(("NAME", "PORT", "HOSTS", "ENCRYPTION", "CIPHER", "MTU", "NETWORKS"), rows, "no profiles")


@app.command("show", epilog="Example: warren profile show customers")
def show_(context: typer.Context, name: ProfileRef, json: JsonOption = False) -> None:
    """Show one tunnel profile, its hosts and its networks."""
    print_one(client(context).profile(name), json)


@app.command(epilog="Example: warren profile delete customers")
def delete(context: typer.Context, name: ProfileRef) -> None:
    """Delete a tunnel profile; no network may name it."""
    client(context).delete_profile(name)


class RuleCommand(TyperCommand):
    """A command with an argument of several words that begins like an option, such as an overlay rule of SmartOS, which begins with -e."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line with the rule behind `--`, where no word is an option."""
        rules = [word for word in args if word.startswith("-") and " " in word] if "--" not in args else []
        rest = [word for word in args if word not in rules]
        return super().parse_args(ctx, [*rest, "--", *rules] if rules else rest)


@app.command(
    "import",
    cls=RuleCommand,
    epilog="Example: warren profile import customers '-e vxlan -p vxlan/listen_ip=0.0.0.0 -s files -p files/config=/x.json' --hosts h1,h2",
)
def import_(
    context: typer.Context,
    name: ProfileRef,
    rule: Annotated[str | None, typer.Argument(metavar="[RULE]", help="An overlay rule of SmartOS.")] = None,
    hosts: HostsOption = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Instead of a rule: a host's table for the search plug-in `files` (JSON); - is standard input."
        ),
    ] = None,
    network: Annotated[str | None, typer.Option(help="With --table: the network of the table's endpoints.")] = None,
    json: JsonOption = False,
) -> None:
    """Create or change a profile from SmartOS's overlay rule; or print the endpoints of a host's table as a document for `warren apply`."""
    agent = client(context)
    if (rule is None) == (table is None) or (network is None) != (table is None):
        raise Failure("give a rule, or --table and --network")
    if rule is not None:
        print_one(agent.import_rule(name, rule, hosts=hosts), json)
    elif table is not None and network is not None:
        of_profile = agent.network(network).profile
        if of_profile != name:
            raise Failure(f"network {network} belongs to profile {of_profile}")
        print(agent.import_table(read(table), network), end="")


@app.command(
    epilog="Example: warren profile export customers; warren profile export customers --table h1 > customers_overlay.json"
)
def export(
    context: typer.Context,
    name: ProfileRef,
    table: Annotated[
        str | None, typer.Option(metavar="HOST", help="Instead of the rule: this host's table for the search plug-in `files`.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="With --table: only this network.")] = None,
) -> None:
    """Print a profile as SmartOS's overlay rule, or as a host's table of MACs."""
    agent = client(context)
    if table is not None:
        show.as_json(agent.export_table(name, table, network=network))
    elif network is not None:
        raise Failure("--network: only with --table")
    else:
        print(agent.export_rule(name))
