"""The floors of docs/design.md: a room imports only rooms below it, nothing imports in a circle, and each outside framework has its door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# each room and the rooms that it may import, from the ground up
ALLOWED: dict[str, set[str]] = {
    "warren": set(),
    "pipeline": set(),
    "acl": {"warren", "pipeline"},
    "specs": {"warren", "acl"},
    "mirror": {"warren", "pipeline", "acl", "specs"},
    "intent": {"warren", "acl", "specs", "mirror"},
    "ovsdb": {"warren", "specs", "mirror"},
    "controller": {"warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb"},
    "agent": {"warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb", "controller"},
    "tools": {"warren", "acl", "specs", "mirror", "ovsdb"},
}
# files of the agent that all its folders may use
AGENT_GROUND = {"worker", "listeners", "states", "cache", "config", "feature", "status", "switch", "lookup", "exclusive"}
# within a room, likewise; a folder or file that is not named may import all of the room
INSIDE: dict[str, dict[str, set[str]]] = {
    "specs": {
        "model": set(),
        "ports": {"model"},
        "snapshot": {"model", "store"},
        "documents": {"model", "snapshot", "checks", "ports"},
    },
    "agent": {
        "linux": {"worker"},
        "endpoints": {"linux", "api", *AGENT_GROUND},
        "gateway": {"linux", *AGENT_GROUND},
        "dhcp_client": {"linux", "docker", *AGENT_GROUND},
        "capture": {"linux", "core", *AGENT_GROUND},
        "docker": {"linux", "endpoints", "dhcp_client", "api", "core", *AGENT_GROUND},
        "cni": {"linux", "endpoints", "api", "core", *AGENT_GROUND},
        "api": {"linux", "endpoints", "core", "agent", "remote", "trace", "policy_check", *AGENT_GROUND},
    },
    "tools": {"cni": set(), "lab": set(), "cli": {"lab"}, "graph": {"cli"}},
}
DOORS = {
    "ryu": ("controller/apps/", "controller/openflow/messages.py", "controller/openflow/session.py"),
    "ovs": ("ovsdb/client.py", "ovsdb/"),
    "etcd3": ("specs/store/etcd.py",),
    "grpc": ("specs/store/etcd.py",),
    "pyroute2": ("agent/",),
    "eventlet": ("controller/apps/",),
}
# of the floors below, the agent may use the pure part of the controller only
AGENT_MAY = ("controller.compiler.compile", "controller.compiler.explain")
PURE = (
    "pipeline/",
    "acl/compile.py",
    "acl/evaluate.py",
    "mirror/compile.py",
    "controller/dhcp/",
    "controller/compiler/",
    "controller/events.py",
    "controller/openflow/icmp.py",
    "controller/openflow/packet_log.py",
    "controller/telemetry/counters.py",
    "controller/telemetry/sinks.py",
    "controller/telemetry/switch_stats.py",
    "controller/tunnels/",
    "controller/reconcile.py",
)
NOT_PURE = ("controller/dhcp/server.py",)
# imports that still point upward: each goes with the code that it belongs to
UPWARD = {
    ("acl/policy.py", "specs.model.host"),
    ("acl/policy.py", "specs.model.records"),
    ("specs/model/service.py", "intent.gateway"),
}
MODULES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """The modules that a file imports, `from package import module` resolved; with `at_import` only what runs when it is imported."""
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text()), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                found.add(module if (ROOT / Path(*module.split("."))).with_suffix(".py").exists() else node.module)
    return found


def _nodes(tree: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _nodes(node, at_import)


def room_and_place(module: str) -> tuple[str, str]:
    first, _, rest = module.partition(".")
    return first, rest.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_floors(path: Path) -> None:
    room, place = room_and_place(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        top, inside = room_and_place(module)
        if (name(path), module) in UPWARD:
            continue
        if top in ALLOWED and top != room:
            assert top in ALLOWED[room], f"{name(path)} imports {module}"
            if room == "agent" and top == "controller":
                assert module in AGENT_MAY, f"{name(path)} imports {module}: the agent uses the pure part only"
        if top == room and place in INSIDE.get(room, {}) and inside not in ("", place):
            assert inside in INSIDE[room][place], f"{name(path)} imports {module}"
        if top in DOORS:
            assert name(path).startswith(DOORS[top]), f"{name(path)} imports {module}"
        if name(path).startswith(PURE) and name(path) not in NOT_PURE:
            assert top in ALLOWED or top in sys.stdlib_module_names, f"{name(path)} imports {module}"


def test_no_exception_outlives_its_import() -> None:
    for path, module in UPWARD:
        assert module in imports(ROOT / path), f"{path} imports {module} no more: take it off the list"


def test_nothing_imports_in_a_circle() -> None:
    graph = {name(path): set[str]() for path in MODULES}
    for path in MODULES:
        for module in imports(path, at_import=True):
            target = Path(*module.split("."))
            for candidate in (target.with_suffix(".py"), target / "__init__.py"):
                if (ROOT / candidate).exists() and candidate.as_posix() != name(path):
                    graph[name(path)].add(candidate.as_posix())
    done: set[str] = set()

    def walk(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, " -> ".join((*trail[trail.index(node) :], node))
        if node not in done:
            for following in sorted(graph[node]):
                walk(following, (*trail, node))
            done.add(node)

    for node in graph:
        walk(node, ())


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_file_can_be_read_in_a_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{name(path)} has {lines} lines: it asks to be two files"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"
