"""Options of every command that prints results: the form of the output (-o), and whether it is printed repeatedly (--watch)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tools.cli.show import output

OPTIONS = ("json", "as_json")  # parameters by which a command says that it prints results
WATCHED = ("list", "show", "status", "flows", "check")
Format = Literal["table", "wide", "json", "yaml", "name"]


def _choose(value: str) -> str:
    output.format = value
    return value


def _watch(value: bool) -> bool:
    output.watch = value
    return value


def _options(
    form: Annotated[
        Format,
        typer.Option("--output", "-o", callback=_choose, is_eager=True, help="The form of the output; wide: nothing is folded."),
    ] = "table",
    watch: Annotated[
        bool, typer.Option("--watch", callback=_watch, is_eager=True, help="Print again every 2 s, until Ctrl-C.")
    ] = False,
) -> None:
    """The options, as typer makes them of a function's parameters."""


def _made() -> tuple[Any, Any]:
    holder = typer.Typer(add_completion=False)
    holder.command()(_options)
    form, watch = typer.main.get_command(holder).params[:2]
    form.expose_value = watch.expose_value = False
    return form, watch


def add_options(command: Any) -> None:
    """Add the options to all commands below this one that print results."""
    for name, inner in getattr(command, "commands", {}).items():
        add_options(inner)
        if any(parameter.name in OPTIONS for parameter in inner.params):
            form, watch = _made()
            inner.params += [form, watch] if name in WATCHED else [form]
