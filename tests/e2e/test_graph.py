"""Graphs drawn from a real laboratory show its networks, endpoints and tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import World


def drawn(world: World, output: Path, *words: str) -> str:
    command = [sys.executable, "-m", "tools.graph", "--lab", world.plan.name, "-o", str(output), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output.read_text(errors="replace")


def test_the_topology(world: World, tmp_path: Path) -> None:
    topology = json.loads(drawn(world, tmp_path / "a.json"))
    nodes = {node["id"]: node for node in topology["nodes"]}
    assert {"host h1", "host h2", "host h3", "network amber", "network blue"} <= set(nodes)
    web = nodes["endpoint amber/web"]
    assert (web["ipv4"], web["mac"], web["state"]) == (world.address["web"], world.mac["web"], "up")
    edges = {(e["source"], e["target"]): e for e in topology["edges"]}
    assert "amber" in edges["host h1", "host h2"]["networks"]
    assert drawn(world, tmp_path / "a.png").startswith("\ufffdPNG")


def test_a_packets_way_and_the_tables(world: World, tmp_path: Path) -> None:
    way = drawn(world, tmp_path / "way.dot", "--path", "web", "db", "--tcp", "80")
    assert "delivered" in way
    assert "VXLAN" in way
    assert "endpoint/amber/db" in way
    lost = drawn(world, tmp_path / "lost.dot", "--path", "web", "red")
    assert "not reached" in lost
    tables = drawn(world, tmp_path / "tables.dot", "--pipeline", "h1")
    assert "0 CLASSIFY" in tables
    assert '"table 0" -> "table 4"' in tables
