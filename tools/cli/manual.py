"""The manual page warren(1), made from the help of the commands, and the scripts that complete command lines."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Annotated, Any, Literal

import typer

from warren import __version__

SHELLS = {
    "bash": "source <(warren completion bash)  # in ~/.bashrc",
    "zsh": "source <(warren completion zsh)  # in ~/.zshrc, after compinit",
    "fish": "warren completion fish | source  # in ~/.config/fish/config.fish",
}


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.")]) -> None:
    """Print the script that completes commands, options and names in a shell."""
    from typer.completion import get_completion_script

    print(f"# {SHELLS[shell]}")
    print(get_completion_script(prog_name="warren", complete_var="_WARREN_COMPLETE", shell=shell))


def man(context: typer.Context) -> None:
    """Print the manual page warren(1) in roff: warren man | man -l -"""
    print("\n".join(page(context.find_root().command)))


def page(command: Any) -> Iterator[str]:
    """The lines of the manual page."""
    yield f'.TH WARREN 1 "" "Warren {__version__}" "User Commands"'
    yield from (
        ".SH NAME",
        r"warren \- container networks over Open vSwitch",
        ".SH SYNOPSIS",
        r".B warren",
        r"[\fIOPTION\fR]... \fICOMMAND\fR ...",
    )
    yield ".SH DESCRIPTION"
    yield from _prose(command.help)
    yield ".SH OPTIONS"
    yield from _options(command)
    yield ".SH COMMANDS"
    yield from _commands(command, ("warren",))
    yield from (
        ".SH EXIT STATUS",
        "0: done. 1: the answer is no (a packet is dropped, a host differs). 2: an error, as one line on standard error.",
    )
    yield ".SH ENVIRONMENT"
    yield from _prose("WARREN_URL, WARREN_LAB, WARREN_CONFIG, WARREN_TLS_CERT, WARREN_TLS_KEY, WARREN_TLS_CA, NO_COLOR")


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        if inner.hidden:
            continue
        words = (*path, name)
        arguments = " ".join(p.metavar or p.name.upper() for p in inner.params if p.param_type_name == "argument")
        yield f".SS {_escaped(' '.join(words[1:]))} {_escaped(arguments)}".rstrip()
        yield from _prose(inner.help)
        yield from _options(inner)
        if inner.epilog:
            yield from (".PP", *_prose(inner.epilog))
        yield from _commands(inner, words)


def _options(command: Any) -> Iterator[str]:
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden:
            value = "" if option.is_flag else rf" \fI{_escaped(option.metavar or option.name.upper())}\fR"
            yield from (
                ".TP",
                rf"\fB{_escaped(', '.join((*option.opts, *option.secondary_opts)))}\fR{value}",
                *_prose(option.help),
            )


def _prose(text: str | None) -> Iterator[str]:
    paragraphs = cleandoc(text or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Text for roff: nothing in it is a request or an escape."""
    safe = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe
