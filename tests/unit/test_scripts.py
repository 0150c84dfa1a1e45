"""scripts/test with stand-ins for its parts: what it runs, its last lines, and its exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = ("check", "others", "e2e", "runtimes", "image", "trixie", "kernel")
GOOD = {
    "check": "Success: no issues found",
    "others": "1530 passed, 2 skipped in 101.20s (0:01:41)",
    "e2e": "284 passed in 612.00s (0:10:12)",
    "runtimes": "130 passed in 500.00s (0:08:20)",
    "image": "test-image: skipped, dockerd is not installed",
    "trixie": "test-debian: skipped, packages cannot be fetched",
    "kernel": "17 passed in 300.10s (0:05:00)",
}
BAD = {
    "check": (1, "specs/checks.py:3: error: Name is not defined"),
    "others": (
        1,
        "FAILED tests/unit/test_a.py::test_b - assert 1 == 2\\nERROR tests/netns/test_c.py::test_d\\n1 failed, 9 passed, 1 error in 3.20s",
    ),
    "e2e": (139, "Fatal Python error: Segmentation fault"),
    "runtimes": (1, "3 failed, 129 passed in 4.00s"),
    "image": (1, "test-image: the plugin does not answer"),
    "trixie": (1, "test-debian: the demo does not end"),
    "kernel": (2, "1 failed in 4.00s"),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with scripts/test and a stand-in for each part: it writes its name to `ran`, prints, and ends with a code."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    for part in PARTS:
        behave(tmp_path, part, 0, GOOD[part])
    for script, part in (("check", "check"), ("test-image", "image"), ("test-debian", "trixie"), ("test-kernel", "kernel")):
        executable(tmp_path / "scripts" / script, f"exec ./{part}")
    executable(
        tmp_path / ".venv" / "bin" / "python",
        'case "$*" in *test_b*) exec ./again ;; *"--ignore tests/e2e"*) exec ./others ;; *--ignore=*) exec ./e2e ;; *) exec ./runtimes ;; esac',
    )
    return tmp_path


def behave(checkout: Path, part: str, code: int, output: str) -> None:
    executable(checkout / part, f"echo {part} >>ran; printf '%b\\n' '{output}'; exit {code}")


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(checkout: Path, recheck: str = "no") -> tuple[int, str, list[str]]:
    """The exit code, all output, and the lines of the summary."""
    environment = {**os.environ, "RECHECK": recheck}
    done = subprocess.run(
        ["scripts/test"], cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout, done.stdout.partition("---- summary\n")[2].splitlines()


def test_all_well(checkout: Path) -> None:
    code, output, summary = run(checkout)
    assert code == 0, output
    assert [line.split()[:2] for line in summary] == [
        ["passed", "check"], ["passed", "others"], ["passed", "e2e"], ["passed", "runtimes"], ["skipped", "image"], ["skipped", "trixie"], ["passed", "kernel"],
    ]  # fmt: skip
    assert "284 passed in 612.00s" in summary[2]
    assert all(text in output for text in GOOD.values()), "the parts' own closing lines are shown"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_keeps_no_other_from_running_and_is_named(checkout: Path, part: str) -> None:
    behave(checkout, part, *BAD[part])
    code, output, summary = run(checkout)
    assert code == 1, output
    assert sorted((checkout / "ran").read_text().split()) == sorted(PARTS)
    assert [line.split()[1] for line in summary if line.startswith("FAILED")] == [part]
    named = " ".join(line for line in summary if line.startswith("    "))
    expected = (
        ("FAILED tests/unit/test_a.py::test_b", "ERROR tests/netns/test_c.py::test_d") if part == "others" else (BAD[part][1],)
    )
    assert all(text in named for text in expected), summary


def test_a_part_whose_tests_are_all_skipped_is_skipped(checkout: Path) -> None:
    behave(checkout, "e2e", 0, "284 skipped in 1.00s")
    code, output, summary = run(checkout)
    assert (code, summary[2].split()[0]) == (0, "skipped"), output


FAILURE = "FAILED tests/unit/test_a.py::test_b[x y] - assert 1 == 2"


@pytest.mark.parametrize("part", ["others", "e2e", "runtimes"])
def test_what_passes_when_it_runs_again_is_listed_as_unsteady(checkout: Path, part: str) -> None:
    behave(checkout, part, 1, f"{FAILURE}\\n1 failed, 9 passed in 3.20s")
    behave(checkout, "again", 0, "1 passed in 1.00s")
    code, output, summary = run(checkout, "yes")
    assert code == 0, output
    assert [line.split()[1] for line in summary if line.startswith("unsteady")] == [part]
    assert "    passed when it ran again: tests/unit/test_a.py::test_b[x y]" in summary
    assert (checkout / "ran").read_text().split().count("again") == 1


@pytest.mark.parametrize(
    ("failures", "code", "recheck"),
    [
        ([FAILURE], 1, "yes"),
        ([FAILURE], 0, "no"),
        ([FAILURE, "ERROR tests/e2e/test_c.py::test_d - assert complaints == []"], 0, "yes"),
        ([FAILURE.replace("test_b", f"test_b{i}") for i in range(6)], 0, "yes"),
    ],
    ids=["fails again", "not asked for", "something was left behind", "many"],
)
def test_what_else_fails_fails_the_run(checkout: Path, failures: list[str], code: int, recheck: str) -> None:
    behave(checkout, "e2e", 1, "\\n".join([*failures, "1 failed, 9 passed in 3.20s"]))
    behave(checkout, "again", code, "1 passed in 1.00s")
    result, output, summary = run(checkout, recheck)
    assert result == 1, output
    assert [line.split()[1] for line in summary if line.startswith("FAILED")] == ["e2e"]
