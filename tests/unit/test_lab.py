"""The laboratory's commands: what cannot work is told in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.lab import run
from tools.lab.plan import LabPlan, container_netns


@dataclass
class Silent:
    """An agent that accepts connections and answers none."""

    socket: Path
    name: str = "h1"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Silent]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        yield Silent(tmp_path / "agent.sock")


def test_an_agent_that_does_not_answer_is_named(silent: Silent) -> None:
    with pytest.raises(run.LabError, match="the agent of h1 does not answer in"):
        run.api(silent, "GET", "/status", timeout_s=0.1)  # type: ignore[arg-type]


def test_an_agent_that_breaks_off_is_named(silent: Silent, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other.sock"))
        listener.listen()
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        with pytest.raises(run.LabError, match="the agent of h1 does not answer: "):
            run.api(Silent(tmp_path / "other.sock"), "GET", "/status")  # type: ignore[arg-type]
    with pytest.raises(run.LabError, match="the agent of h1 does not answer: "):
        run.api(Silent(tmp_path / "none.sock"), "GET", "/status")  # type: ignore[arg-type]


@pytest.mark.parametrize("process", ["etcd", "agent"])
def test_a_host_that_the_laboratory_does_not_have_has_no_processes(process: str) -> None:
    for change in (run.stop, run.start, run.restart):
        with pytest.raises(run.LabError, match="has no host 'h9'; it has h1 to h3"):
            change(LabPlan("none", 3), "h9", process)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a", "a b", "a" * 64])
def test_a_container_has_a_name_that_a_namespace_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="expected letters, digits"):
        container_netns("lab", name)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("words", [("up",), ("up", "--hosts", "0"), ("down",), ("up", "--lab", "a/b")])
def test_users_without_root_are_told_in_one_line(words: tuple[str, ...]) -> None:
    # not subprocess' `user`: it forks with what grpc does at a fork, which may end the child before the command begins
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "tools.cli.main", "lab", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root")
def test_taking_away_a_laboratory_that_is_not_up_is_said_and_no_error() -> None:
    command = [sys.executable, "-m", "tools.cli.main", "lab", "down", "--lab", "absent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "laboratory absent was not up\n")
