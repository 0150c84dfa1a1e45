"""warren config ...: a file of named contexts, each of which says how to reach an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure, config_file, read_config
from tools.cli.context import JsonOption

app = typer.Typer(help="Contexts: named ways to reach an agent, kept in a file of the user's.", no_args_is_help=True)
ContextName = Annotated[str, typer.Argument(metavar="CONTEXT", help="Name of the context.")]


def _write(config: Mapping[str, Any]) -> None:
    path = config_file(os.environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(config, indent=2) + "\n")
        new.replace(path)
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _existing(config: Mapping[str, Any], name: str) -> None:
    if name not in config["contexts"]:
        names = ", ".join(sorted(config["contexts"])) or "none"
        raise Failure(f"context {name!r} does not exist (there are: {names})")


@app.command(
    "set-context", epilog="Example: warren config set-context lan --url https://h1:9999 --cert me.pem --key me.key --ca ca.pem"
)
def set_context(
    name: ContextName,
    url: Annotated[
        str | None, typer.Option(help="URL of the agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH.")
    ] = None,
    lab: Annotated[str | None, typer.Option(help="A laboratory, instead of a URL.")] = None,
    cert: Annotated[str | None, typer.Option(metavar="FILE", help="Certificate for https.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="Its key.")] = None,
    ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="The authority that must have signed the agent's certificate.")
    ] = None,
) -> None:
    """Create a context, or replace one. The first one is used at once."""
    if not name or (url is None) == (lab is None):
        raise Failure("give a name, and either --url URL or --lab NAME")
    fields = {"url": url, "lab": lab, "cert": cert, "key": key, "ca": ca}
    files = {field: str(Path(value).absolute()) for field, value in fields.items() if value and field in ("cert", "key", "ca")}
    config = read_config(os.environ)
    config["contexts"][name] = {field: value for field, value in {**fields, **files}.items() if value}
    config["current"] = config["current"] or name
    _write(config)


@app.command("use-context", epilog="Example: warren config use-context lan")
def use_context(name: ContextName) -> None:
    """Talk to this context's agent from now on."""
    config = read_config(os.environ)
    _existing(config, name)
    _write({**config, "current": name})


@app.command("delete-context", epilog="Example: warren config delete-context lan")
def delete_context(name: ContextName) -> None:
    """Delete a context."""
    config = read_config(os.environ)
    _existing(config, name)
    del config["contexts"][name]
    _write({**config, "current": None if config["current"] == name else config["current"]})


@app.command("current-context", epilog="Example: warren config current-context")
def current_context() -> None:
    """Print the name of the context that is used."""
    if not (current := read_config(os.environ)["current"]):
        raise Failure("no context is used (warren config use-context CONTEXT)")
    print(current)


@app.command("list", epilog="Example: warren config list")
def list_(as_json: JsonOption = False) -> None:
    """List the contexts; the one that is used has a star."""
    config = read_config(os.environ)
    contexts = sorted(config["contexts"].items())
    if as_json:
        show.as_json([{"name": name, "current": name == config["current"], **fields} for name, fields in contexts])
        return
    rows = [
        ("*" if name == config["current"] else "", name, fields.get("url") or f"laboratory {fields.get('lab')}")
        for name, fields in contexts
    ]
    show.table(
        ("", "NAME", "AGENT"), rows, f"no contexts in {config_file(os.environ)} (warren config set-context NAME --url URL)"
    )
