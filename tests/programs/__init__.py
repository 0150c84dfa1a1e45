"""Small programs that tests run in containers, hosts and processes of their own. Each prints "ready" (or what its docstring says) before it
begins to wait, so that no test guesses when it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent
ROOT = PROGRAMS.parent.parent


def program(name: str, *arguments: object) -> tuple[str, ...]:
    """The command that runs a program of this folder."""
    return "env", f"PYTHONPATH={ROOT}", sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)


def ready(process: subprocess.Popen[str], line: str = "ready") -> subprocess.Popen[str]:
    """Wait until a program has printed its first line, which must be this one."""
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == f"{line}\n", (first, process.poll())
    return process


def finish(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Ask a program to end; all that it has printed since."""
    process.terminate()
    return process.communicate(timeout=timeout_s)[0]
