"""warren profile ..."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, client, print_one

app = typer.Typer(
    help="Tunnel profiles: between which hosts networks reach, by which UDP port, and whether encrypted.", no_args_is_help=True
)
ProfileRef = Annotated[str, typer.Argument(metavar="PROFILE", help="Name of the profile.")]
PortOption = Annotated[
    int | None, typer.Option(help="UDP port, which no other profile has (default: the next free one from 4789 on).")
]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="On the host that has this address, take tunnel packets to it alone; 0.0.0.0: to all."),
]
HostsOption = Annotated[
    str | None, typer.Option(metavar="HOSTS", help="all, site:NAME, names of hosts (which may come later), with commas between.")
]
MtuOption = Annotated[
    str | None, typer.Option(metavar="auto|BYTES", help="MTU of endpoints (default: auto, what the worst path carries).")
]
EncryptionOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|always|never", help="auto: between sites; always: inside a site, too; never: plain, and only inside a site."
    ),
]
CipherOption = Annotated[str | None, typer.Option(metavar="wireguard|ipsec", help="How it is encrypted (default: wireguard).")]


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
    """Change a tunnel profile; what is not given stays. Another port interrupts its networks until all hosts have it."""
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
    )
    print_one(profile, json)


def _mtu(text: str | None) -> int | str | None:
    """A number as one; other text as it is, for the agent to judge."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


@app.command("list", epilog="Example: warren profile list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """List the tunnel profiles; `default` is always there."""
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
    """Delete a tunnel profile that no network names."""
    client(context).delete_profile(name)
