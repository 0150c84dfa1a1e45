"""The floors of docs/design.md: imports go down only, and each outside framework has its door."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("specs", "pipeline", "acl", "mirror", "dhcp", "controller", "ovsdb", "agent", "cli", "cni", "lab", "tools")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# what a package may import of Warren besides itself
ALLOWED = {
    "specs": set(),
    "pipeline": set(),
    "acl": {"specs", "pipeline"},
    "mirror": {"specs", "pipeline"},
    "dhcp": {"specs"},
    "controller": {"specs", "pipeline", "acl", "mirror", "dhcp", "ovsdb"},
    "ovsdb": {"specs"},
    "agent": {"specs", "pipeline", "acl", "controller", "ovsdb"},
    "cli": {"specs", "acl", "lab"},
    "cni": set(),
    "lab": {"specs", "cli", "ovsdb"},
    "tools": {"specs", "cli"},
}
DOORS = {
    "ryu": ("controller/apps/", "controller/wire.py", "controller/datapath.py"),
    "ovs": ("ovsdb/client.py", "ovsdb/"),
    "etcd3": ("specs/store.py",),
    "grpc": ("specs/store.py",),
    "pyroute2": ("agent/",),
    "eventlet": ("controller/apps/",),
}
# of the floors below, the agent may use the pure part of the controller only
AGENT_MAY = ("controller.compile", "controller.explain")
PURE = (
    "pipeline/",
    "acl/compile.py",
    "acl/evaluate.py",
    "mirror/",
    "dhcp/",
    "controller/features/",
    "controller/compile.py",
    "controller/events.py",
    "controller/icmp.py",
    "controller/glimpse.py",
    "controller/polled.py",
    "controller/probes.py",
    "controller/reconcile.py",
    "controller/sinks.py",
    "controller/tally.py",
    "controller/explain.py",
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_floors(path: Path) -> None:
    package = name(path).split("/")[0]
    for module in imports(path):
        top = module.split(".")[0]
        if top in PACKAGES and top != package:
            assert top in ALLOWED[package], f"{name(path)} imports {module}"
            if package == "agent" and top == "controller":
                assert module in AGENT_MAY, f"{name(path)} imports {module}: the agent uses the pure part only"
        if top in DOORS:
            assert name(path).startswith(DOORS[top]), f"{name(path)} imports {module}"
        if name(path).startswith(PURE):
            assert top in PACKAGES or top in sys.stdlib_module_names, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_file_can_be_read_in_a_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{name(path)} has {lines} lines: it asks to be two files"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"
