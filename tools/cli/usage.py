"""Runs a command of typer's so that any error is one line on standard error and exit code 2."""

from __future__ import annotations

import copy
import sys
from inspect import cleandoc
from typing import Any

import typer

from tools.cli.client import Failure, message_of
from warren.client import Error

HELP_OPTIONS = ("-h", "--help")
NUMBERS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
VERBS = (("create", "add"), ("delete", "remove"))  # each group has one of them by name, and takes the other


def run(command: Any, name: str, arguments: list[str] | None) -> int:
    """Run a command; returns the exit code. A failure is one line on standard error."""
    try:
        code = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except (Failure, Error) as error:
        code = _fail(name, message_of(error), getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader, such as `head`, has ended: nothing to report
        code = 0
    except (OSError, UnicodeError) as error:  # the terminal, a file, or an argument that no file and no request can hold
        code = _fail(name, _of_system(error))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        text = _refusal(error, name)  # a usage error, whichever click typer stands on
        code = _fail(name, text) if text else 2  # no text: help was shown
    return code if isinstance(code, int) else 0


def tidy(command: Any) -> None:
    """Correct two things in typer's help texts: `<bool>` behind every flag, and line breaks inside paragraphs."""
    command.help = "\n\n".join(text.replace("\n", " ") for text in cleandoc(command.help or "").split("\n\n")) or None
    with typer.Context(command, help_option_names=list(HELP_OPTIONS)) as context:
        for option in (*command.params, command.get_help_option(context)):
            if getattr(option, "is_flag", False):
                option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        tidy(inner)


def add_verbs(command: Any) -> None:
    """Make every group take both words of `VERBS`; help texts show the group's own."""
    commands = getattr(command, "commands", {})
    for inner in list(commands.values()):
        add_verbs(inner)
    for pair in VERBS:
        for verb, other in (pair, pair[::-1]):
            if verb in commands and other not in commands:
                commands[other] = copy.copy(commands[verb])
                commands[other].hidden = True


def _refusal(error: Any, name: str) -> str:
    """Return a usage error as one line: the argument or option, its value, what is expected. Empty if help was shown instead."""
    text, parameter = str(error.format_message()), getattr(error, "param", None)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else name
    if not text:
        return ""
    if parameter is None:
        problem = text.rstrip(".")
    elif isinstance(error.__cause__, Exception):
        problem = f"{_name(parameter)}: {_problem(error.__cause__, parameter)}"
    elif not error.message:  # nothing is wrong with the value: there is none
        problem = f"{_name(parameter)} is missing{_expected(parameter)}"
    else:
        problem = f"{_name(parameter)}: {error.message.rstrip('.')}"
    return f"{problem} (see {path} --help)"


def _problem(cause: Any, parameter: Any) -> str:
    """The value, and what is expected, from what typer's checker (pydantic) has found."""
    first = cause.errors()[0]
    value, kind, facts = first["input"], str(first["type"]), first.get("ctx", {})
    choices = parameter.type_descriptor.choices
    if choices:
        return f"{value!r}: expected one of {', '.join(map(str, choices))}"
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"{value}: expected {words} {facts[name]:g}"
    number = NUMBERS.get(kind.partition("_")[0])
    text = "text in UTF-8" if kind == "string_unicode" else None
    return f"{value!r}: expected {number or text or facts.get('error') or first['msg']}"


def _name(parameter: Any) -> str:
    """An option as the user writes it, or an argument's name."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return max(parameter.opts, key=len)


def _expected(parameter: Any) -> str:
    text = str(getattr(parameter, "help", None) or "").strip().rstrip(".")
    return f": {text[:1].lower()}{text[1:]}" if text else ""


def _of_system(error: OSError | UnicodeError) -> str:
    if not isinstance(error, OSError):
        return f"an argument or an answer is no text: {error}"
    problem = error.strerror or str(error)
    return f"{error.filename}: {problem}" if isinstance(error.filename, str) else problem


def _fail(name: str, message: str, code: int = 2) -> int:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return code
