"""The wheel: what it holds, and that a clean virtual environment with nothing else runs Warren's commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_architecture import ALLOWED
from warren import __version__

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ("warren", "warren-agent", "warren-cni", "warren-netavark", "graph_overlay", "ryu-manager")
# without the checkout on the path: pip would take its egg-info for an installed Warren
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
UNFETCHED = re.compile(
    "Could not find a version|No matching distribution|HTTPSConnectionPool|Temporary failure|Connection (refused|timed out|reset)"
)


def pip(python: Path | str, *words: str) -> None:
    """Run pip; a machine that packages do not reach skips the test."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *words], env=ENVIRONMENT, capture_output=True, text=True
    )
    if done.returncode and UNFETCHED.search(done.stderr):
        pytest.skip("packages cannot be fetched")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the files that git knows: what other builds left beside them must not get in."""
    work = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, work / "source" / name)
    pip(sys.executable, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work), str(work / "source"))
    return next(work.glob("*.whl"))


def test_the_wheel_holds_every_module_and_data_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in held} == set(ALLOWED)
    listed = subprocess.run(["git", "ls-files", *ALLOWED], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert set(listed) - held == set()


def test_a_clean_environment_runs_the_commands(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    pip(programs / "python", "install", "--quiet", str(wheel))

    def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env={**ENVIRONMENT, **more}, capture_output=True, text=True)  # type: ignore[dict-item]

    assert [command for command in COMMANDS if not (programs / command).exists()] == []
    assert run(programs / "warren", "--version").stdout == f"warren {__version__}\n"
    assert run(programs / "graph_overlay", "--help").returncode == 0
    assert run(programs / "ryu-manager", "--version").returncode == 0
    assert '"cniVersion"' in run(programs / "warren-cni", CNI_COMMAND="VERSION").stdout
    agent = run(programs / "warren-agent", WARREN_VTEP="not an address")
    assert agent.returncode != 0
    assert "WARREN_VTEP" in agent.stderr
    every = "import warren, warren.client, agent.main, controller.openflow.messages; print(warren.__version__)"
    assert run(programs / "python", "-c", every).stdout == f"{__version__}\n"
    assert run(programs / "python", "-m", "pip", "check").returncode == 0
