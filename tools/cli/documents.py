"""warren apply, diff, export: YAML documents and the store."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tools.cli import show
from tools.cli.client import Failure
from tools.cli.context import JsonOption, Timeout, Wait, client, warn
from warren.client import Applied, Invalid, Progress

SIZE_LIMIT = 8_388_608  # bytes of a document, as in specs/documents/text.py, which would take long to import
SIGNS = {"create": "+", "delete": "-", "update": "~"}
QUIET_S = 1.0  # shorter work reports no progress
LINE_S = 2.0  # between two lines of progress in a pipe
File = Annotated[str, typer.Option("--file", "-f", help="A YAML document; - is standard input.")]
Prune = Annotated[bool, typer.Option(help="Delete objects that are missing in the document's sections.")]


def apply(
    context: typer.Context,
    file: File,
    prune: Prune = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would change, and change nothing.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: JsonOption = False,
) -> None:
    """Make the specs equal to a YAML document. A change that would be refused is found before anything is written."""
    report = _Report(silent=json)
    applied = _applied(context, file, report, prune=prune, dry_run=dry_run, wait_s=timeout if wait else 0.0)
    warn(applied)
    if json:
        show.as_json([change.raw for change in applied.changes])
    else:
        print_changes(applied)
        _print_pairs(applied)
    if applied.late:
        raise Failure(f"not done after {timeout:g} s: {', '.join(applied.late)} (see warren status)")


def diff(context: typer.Context, file: File, prune: Prune = False, json: JsonOption = False) -> None:
    """Print how a YAML document differs from the specs, and change nothing. Exit code 1 if it differs, 0 if not."""
    applied = _applied(context, file, _Report(silent=json), prune=prune, dry_run=True)
    warn(applied)
    if json:
        show.as_json([change.raw for change in applied.changes])
    else:
        _print_difference(applied)
    if applied.changes:
        raise typer.Exit(1)


def _print_difference(applied: Applied) -> None:
    """A line for each change, with `+`, `-` or `~` as in diff(1), and the fields below it."""
    for change in applied.changes:
        print(f"{SIGNS.get(change.action, '?')} {change.kind} {change.name}")
        for field, value in change.fields.items():
            for sign, state in (("-", "old"), ("+", "new")):
                if value[state] is not None:
                    print(f"    {sign} {field}: {show.cell(value[state], 'none')}")


def _applied(context: typer.Context, file: str, report: _Report, **options: Any) -> Applied:
    """The answer to a document. Raises `Failure`."""
    agent, document = client(context), read(file)
    try:
        with report:
            return agent.apply(document, progress=report.take, **options)
    except Invalid as error:  # a mistake in the document
        raise Failure(f"{file}: {error}") from None
    except KeyboardInterrupt:
        raise Interrupted(report.interrupted()) from None


class Interrupted(Failure):
    """The user has interrupted a command half-way."""

    exit_code = 130


class _Report:
    """Reports the progress of a long apply on standard error: a bar on a terminal, lines in a pipe."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._last: Progress | None = None
        self._next = time.monotonic() + QUIET_S  # when the next line is due
        self._bar: Any = None

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def take(self, progress: Progress) -> None:
        """Show the agent's progress."""
        self._last = progress
        if self._silent or (self._bar is None and time.monotonic() < self._next):
            return
        text = f"{progress.done} of {progress.total} changes {progress.phase}"
        if sys.stderr.isatty():
            self._draw(progress)
        else:
            print(text, file=sys.stderr, flush=True)
            self._next = time.monotonic() + LINE_S

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        self._bar.update(self._task, description=progress.phase, completed=progress.done, total=progress.total)

    def interrupted(self) -> str:
        """Return an error that says what an interrupted command has done."""
        if self._last is None or self._last.phase != "written":
            return "interrupted: nothing is written"
        return (
            f"interrupted: {self._last.done} of {self._last.total} changes are written, perhaps a few more; "
            "the agent stops; run the same command again for the rest"
        )


def print_changes(applied: Applied, suffix: str = "") -> None:
    """A line for each change, and one for each field that differs."""
    for change in applied.changes:
        print(f"{change.action} {change.kind} {change.name}{suffix}")
        if change.action == "update":
            for field, value in change.fields.items():
                print(f"    {field}: {show.cell(value['old'], 'none')} -> {show.cell(value['new'], 'none')}")
    if not applied.changes:
        print("nothing to change")


def _print_pairs(applied: Applied) -> None:
    if applied.pairs:
        rows = [(pair.src, pair.dst, ", ".join(pair.allowed), ", ".join(pair.denied)) for pair in applied.pairs]
        print("\nbetween endpoints this would change:")
        show.table(("FROM", "TO", "NEWLY ALLOWED", "NEWLY DENIED"), rows, "")
    if applied.pairs_not_compared:
        print(f"{applied.pairs_not_compared} pairs of endpoints were not compared: there are too many")


def export(context: typer.Context, json: JsonOption = False) -> None:
    """Print all specs as a document that `apply` takes."""
    text = client(context).export()
    if not json:
        print(text, end="")
        return
    from specs.documents.text import load  # only here: PyYAML takes long to import

    show.as_json(load(text, size_limit=sys.maxsize))


def register(app: typer.Typer) -> None:
    """Put the commands into the main application."""
    app.command(epilog="Example: warren apply -f examples/demo.yaml --dry-run")(apply)
    app.command(epilog="Example: warren diff -f specs.yaml --prune && echo nothing to do")(diff)
    app.command(epilog="Example: warren export > specs.yaml")(export)


def read(file: str) -> str:
    """The text of a document; - is standard input. Raises `Failure`."""
    try:
        raw = sys.stdin.buffer.read(SIZE_LIMIT + 1) if file == "-" else _head(Path(file))
        text = raw.decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise Failure(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if len(raw) > SIZE_LIMIT:
        raise Failure(f"{file}: longer than {SIZE_LIMIT} bytes")
    if not text.strip():  # an unset variable or a failed command before the pipe: with --prune it would delete everything
        raise Failure(f"{file}: it is empty; expected a YAML document with sections such as networks:")
    return text


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIZE_LIMIT + 1)
