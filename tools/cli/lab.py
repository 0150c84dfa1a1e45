"""`warren lab ...`: a throw-away laboratory of several hosts on this machine."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from tools.lab import run
from tools.lab.plan import DEFAULT, LabPlan

app = typer.Typer(
    no_args_is_help=True,
    help="A laboratory: hosts as network namespaces on this machine, each with its own Open vSwitch, controller and agent.\n\n"
    "  warren lab up --hosts 3; warren network create amber --ip-range 10.0.0.0/24;\n\n"
    "  warren lab container web --host h1 --network amber; warren lab exec web -- ip addr",
)

LabHost = Annotated[str, typer.Argument(help="The host, such as h1.")]
ProcessName = Annotated[str, typer.Argument(help="controller, agent, ovs, ovsdb or etcd.")]
LabName = Annotated[
    str,
    typer.Option("--lab", envvar="WARREN_LAB", help="Name of the laboratory, at most 6 characters; several can be up at once."),
]
SignalName = Annotated[str, typer.Option("--signal", help="Signal that ends the process: TERM, KILL ...")]
console = Console(stderr=True)


class Refusal:
    """Turns the errors of a laboratory, and of the machine that it runs on, into one line and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (run.LabError, ValueError, OSError)):
            print(f"warren: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(2)


@app.command()
def up(
    hosts: Annotated[int, typer.Option(help="How many hosts.")] = 3,
    lab: LabName = DEFAULT,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="The underlay between the hosts is IPv6.")] = False,
    sites: Annotated[int, typer.Option(help="How many sites, with --hosts hosts each; encrypted tunnels join them.")] = 0,
    cloud: Annotated[
        str,
        typer.Option(
            help="Clouds, with commas between: aws, azure, gcp. Each is a site whose hosts take their addresses from its metadata service."
        ),
    ] = "",
) -> None:
    """Start a laboratory and wait until every host is up.  Example: warren lab up --hosts 3"""
    with Refusal():
        clouds = tuple(name.strip() for name in cloud.split(",")) if cloud else ()
        plan = LabPlan(lab, hosts * max(1, sites, len(clouds)), ipv6, sites or len(clouds), clouds)
        with console.status("starting") as status:
            run.up(plan, lambda step: status.update(f"laboratory {lab}: {step}"))
    typer.echo(f"laboratory {lab} is up: {', '.join(host.name for host in plan.hosts)}; `warren status` shows it")


@app.command()
def down(lab: LabName = DEFAULT) -> None:
    """Stop a laboratory and remove everything that belongs to it.  Example: warren lab down"""
    with Refusal():
        was_up = lab in run.names()
        run.down(lab)
    if not was_up:
        typer.echo(f"laboratory {lab} was not up", err=True)


@app.command("list")
def list_() -> None:
    """List the laboratories that are up."""
    for name in run.names():
        typer.echo(name)


@app.command()
def container(
    name: Annotated[str, typer.Argument(help="Name of the container.")],
    host: Annotated[str, typer.Option(help="Host that it runs on, such as h1.")],
    network: Annotated[str, typer.Option(help="Its network, by name or id.")],
    lab: LabName = DEFAULT,
) -> None:
    """Make a namespace that stands for a container, and plug it into a network.  Example: warren lab container web --host h1 --network amber"""
    with Refusal():
        endpoint = run.container(run.load(lab), name, host, network)
    typer.echo(f"{name} on {host}: {endpoint.get('target_veth_ip') or 'no address'} {endpoint['target_veth_mac']}")


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    name: Annotated[str, typer.Argument(help="Name of the host or container.")],
    command: Annotated[list[str], typer.Argument(help="Command and arguments, after --.")],
    lab: LabName = DEFAULT,
) -> None:
    """Run a command in a host or a container.  Example: warren lab exec web -- ping -c1 10.0.0.3"""
    with Refusal():
        plan = run.load(lab)
        words = run.in_netns(run.netns_of(plan, name), *command)
        host = plan.host(name)
        environment = {**os.environ, **dict(host.environment())} if host else dict(os.environ)
        os.execvpe(words[0], words, environment)


@app.command()
def restart(host: LabHost, process: ProcessName, signal_name: SignalName = "TERM",
            lab: LabName = DEFAULT) -> None:  # fmt: skip
    """Stop and start a process: controller, agent, ovs, ovsdb, etcd.  Example: warren lab restart h1 controller --signal KILL"""
    with Refusal():
        run.restart(run.load(lab), host, process, _signal(signal_name))


@app.command()
def stop(host: LabHost, process: ProcessName, signal_name: SignalName = "TERM",
         lab: LabName = DEFAULT) -> None:  # fmt: skip
    """Stop a process.  Example: warren lab stop h1 etcd"""
    with Refusal():
        run.stop(run.load(lab), host, process, _signal(signal_name))


@app.command()
def start(host: LabHost, process: ProcessName, lab: LabName = DEFAULT) -> None:
    """Start a stopped process.  Example: warren lab start h1 etcd"""
    with Refusal():
        run.start(run.load(lab), host, process)


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise run.LabError(f"no signal {name!r}: TERM, KILL, INT ...") from None
