"""The controller's child process that reads etcd."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.test_exposure import ROOT, ryu_manager
from tests.waiting import eventually


def children(pid: int) -> list[str]:
    """The command lines of a process's children."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in pids]


def test_the_child_starts_before_the_application_and_is_the_only_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ryu_manager(log) as pid:
        eventually(lambda: any("controller.feed" in line for line in children(pid)))
        eventually(lambda: "etcd.down" in log.read_text())  # the application runs, and hears from it
        assert sum("controller.feed" in line for line in children(pid)) == 1


def test_a_process_that_only_imports_the_module_starts_none() -> None:
    program = (
        "import os, pathlib, controller.apps.overlay; print(pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
