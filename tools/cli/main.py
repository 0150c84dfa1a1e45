"""The `warren` command. Errors of the user end in one line on standard error and exit code 2."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer
from typer.completion import completion_init

from tools.cli import (
    acl,
    admin,
    adopt,
    capture,
    cluster,
    contexts,
    documents,
    endpoint,
    etcd,
    firewall,
    host,
    lab,
    machine,
    manual,
    mirror,
    network,
    operate,
    output,
    port,
    profile,
    publish,
    router,
    service,
    show,
    site,
    tenant,
    usage,
)
from tools.cli.client import Where
from warren import __version__

app = typer.Typer(
    help="Container networks over Open vSwitch, declared in etcd.\n\n"
    "Commands talk to an agent: --url or WARREN_URL, a laboratory that is up (--lab or WARREN_LAB), "
    "or /run/warren/agent.sock. Objects have names and ids; commands take either.",
    context_settings={"help_option_names": list(usage.HELP_OPTIONS)},
    epilog="Start here: warren lab up --hosts 3; warren network create amber; warren status",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(network.app, name="network")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(host.app, name="host")
app.add_typer(cluster.app, name="cluster")
app.add_typer(site.app, name="site")
app.add_typer(profile.app, name="profile")
app.add_typer(site.crypto, name="crypto")
app.add_typer(admin.app, name="admin-overlay")
app.add_typer(firewall.app, name="firewall")
app.add_typer(adopt.app, name="adopt")
app.add_typer(etcd.app, name="etcd")
app.add_typer(port.app, name="port")
app.add_typer(publish.app, name="publish")
app.add_typer(service.app, name="service")
app.add_typer(router.app, name="router")
app.add_typer(tenant.app, name="tenant")
app.add_typer(mirror.app, name="mirror")
app.add_typer(acl.app, name="acl")
app.add_typer(acl.meters, name="meter")
machine.register(app)
documents.register(app)
operate.register(app)
app.command(epilog=capture.EPILOG)(capture.capture)
app.add_typer(lab.app, name="lab")
app.add_typer(contexts.app, name="config")
app.command(epilog="Example: source <(warren completion bash)")(manual.completion)
app.command(hidden=True)(manual.man)
WATCH_S = 2.0


def _version(requested: bool) -> None:
    if requested:
        print(f"warren {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="URL of the agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH.")
    ] = None,
    lab_name: Annotated[str | None, typer.Option("--lab", help="Talk to this laboratory (default: WARREN_LAB).")] = None,
    context_name: Annotated[str | None, typer.Option("--context", help="Talk to this context's agent (warren config).")] = None,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.obj = Where(url, lab_name, context_name)


def main(arguments: list[str] | None = None) -> None:
    """The console script: runs one command and exits."""
    command = typer.main.get_command(app)
    output.add_options(command)
    usage.add_verbs(command)
    usage.tidy(command)
    completion_init()
    code = _run(command, arguments)
    while show.output.watch and code in (0, 1):
        code = _run_again(command, arguments)
    sys.exit(code)


def _run_again(command: Any, arguments: list[str] | None) -> int:
    """Run a watched command once more, after a pause."""
    try:
        sys.stdout.flush()
        time.sleep(WATCH_S)
        if sys.stdout.isatty():
            print("\033[H\033[2J", end="")
    except KeyboardInterrupt:
        return 130
    return _run(command, arguments)


def _run(command: Any, arguments: list[str] | None) -> int:
    """Run a command with a format of its own; returns the exit code."""
    show.output.format, show.output.watch = "table", False
    return usage.run(command, "warren", arguments)


if __name__ == "__main__":
    main()
