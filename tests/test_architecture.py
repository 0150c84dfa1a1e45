"""The architecture of docs/design.md: a room imports only rooms below it, no imports form a circle, each framework has its door, and files and
functions stay small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from radon.complexity import cc_visit
from radon.visitors import Class

ROOT = Path(__file__).parent.parent

# each room and the rooms that it may import, from the ground up
ALLOWED: dict[str, set[str]] = {
    "warren": set(),
    "underlay": {"warren"},
    "pipeline": set(),
    "acl": {"warren", "pipeline"},
    "specs": {"warren", "pipeline", "acl"},
    "mirror": {"warren", "pipeline", "acl", "specs"},
    "intent": {"warren", "pipeline", "acl", "specs", "mirror"},
    "ovsdb": {"warren", "pipeline", "specs", "mirror"},
    "controller": {"warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb"},
    "agent": {"warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb", "controller"},
    "tools": {"warren", "acl", "specs", "mirror", "ovsdb"},
}
# Within a room, from the ground up: a place (a folder, or a file beside the folders) imports only places above its line. A place that is
# not named, such as agent/main.py, may import all; that no two places import each other holds for it, too.
FLOORS: dict[str, tuple[str, ...]] = {
    "specs": (
        "model keys identity",
        "ports paths",
        "snapshot",
        "checks obstacles lineage",
        "references smartos",
        "store documents",
    ),
    "controller": ("framework compiler events telemetry tunnels", "openflow dhcp reconcile reports", "feed", "apps"),
    "agent": (
        "states config exclusive listeners offered",
        "linux feature cache",
        "identity",
        "peers lookup status switch",
        "remote",
        "endpoints gateway dhcp_client encryption names",
        "connections",
        "core",
        "agent capture docker cni",
        "api",
    ),
    "tools": ("lab cni", "cli", "graph"),
}
DOORS = {
    "ryu": ("controller/framework/",),
    "os_ken": ("controller/framework/",),
    "ovs": ("ovsdb/idl.py",),
    "etcd3": ("specs/store/etcd.py", "specs/store/watch.py"),
    "grpc": ("specs/store/etcd.py", "specs/store/watch.py"),
    "pyroute2": ("agent/linux/", "underlay/kernel.py", "agent/dhcp_client/addresses.py"),
    "eventlet": ("controller/apps/",),
    "prometheus_client": ("controller/apps/", "controller/telemetry/", "agent/encryption/metrics.py"),
    "fastapi": ("agent/",),
    "dns": ("agent/names/",),
    "vici": ("agent/linux/charon.py",),
    "typer": ("tools/",),
    "yaml": ("warren/yaml.py", "specs/documents/export.py", "tools/graph/sample.py"),  # the one loader; the others only dump
    "networkx": ("tools/graph/",),
    "graphviz": ("tools/graph/",),
}
# of the floors below, the agent may use the pure part of the controller only
AGENT_MAY = ("controller.compiler.compile", "controller.compiler.explain", "controller.compiler.packet_trace")
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
MODULES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """The modules that a file imports, in its functions too, `from package import module` resolved."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                modules.add(module if (ROOT / Path(*module.split("."))).with_suffix(".py").exists() else node.module)
    return modules


def room_and_place(module: str) -> tuple[str, str]:
    first, _, rest = module.partition(".")
    return first, rest.partition(".")[0]


def floor(room: str, place: str) -> int | None:
    return next((level for level, places in enumerate(FLOORS.get(room, ())) if place in places.split()), None)


def test_every_place_with_a_floor_exists() -> None:
    for room, floors in FLOORS.items():
        for place in " ".join(floors).split():
            assert (ROOT / room / place).is_dir() or (ROOT / room / f"{place}.py").exists(), f"{room}/{place} is gone"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_floors(path: Path) -> None:
    room, place = room_and_place(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        top, inside = room_and_place(module)
        if top in ALLOWED and top != room:
            assert top in ALLOWED[room], f"{name(path)} imports {module}"
            if room == "agent" and top == "controller":
                assert module in AGENT_MAY, f"{name(path)} imports {module}: the agent uses the pure part only"
        level = floor(room, place)
        if top == room and level is not None and inside not in ("", place):
            below = floor(room, inside)
            assert below is None or below < level, f"{name(path)} imports {module}, which is not below it"
        if top in DOORS:
            assert name(path).startswith(DOORS[top]), f"{name(path)} imports {module}"
        if name(path).startswith(PURE) and name(path) not in NOT_PURE:
            assert top in ALLOWED or top in sys.stdlib_module_names, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "warren" / "client").rglob("*.py")), ids=name)
def test_the_public_client_imports_nothing_else_of_warren(path: Path) -> None:
    for module in imports(path):
        ours = module == "warren.client" or module.startswith("warren.client.")
        assert ours or module.partition(".")[0] in {"httpx", *sys.stdlib_module_names}, f"{name(path)} imports {module}"


def files_of(module: str) -> list[str]:
    """The files that importing a module runs, of ours: itself, or its package."""
    target = Path(*module.split("."))
    return [file.as_posix() for file in (target.with_suffix(".py"), target / "__init__.py") if (ROOT / file).exists()]


def folder(file: str) -> str:
    """The folder of a file; a file that stands beside folders is a place of its own, and so is a room without folders."""
    path = Path(file)
    flat = len(path.parts) == 2 and any(
        other.is_dir() and other.name != "__pycache__" for other in (ROOT / path.parts[0]).iterdir()
    )
    return path.as_posix() if flat else path.parent.as_posix()


def circle(graph: dict[str, set[str]]) -> str | None:
    """A circle in a graph, written out; None: it has none."""
    done: set[str] = set()

    def walk(node: str, trail: tuple[str, ...]) -> str | None:
        if node in trail:
            return " -> ".join((*trail[trail.index(node) :], node))
        if node in done:
            return None
        circles = (walk(following, (*trail, node)) for following in sorted(graph.get(node, ())))
        first = next((each for each in circles if each), None)
        done.add(node)
        return first

    return next((each for node in sorted(graph) if (each := walk(node, ()))), None)


def test_no_file_imports_itself_through_others() -> None:
    """Not even in a function, where Python would let it pass."""
    graph = {name(path): {f for m in imports(path) for f in files_of(m)} - {name(path)} for path in MODULES}
    assert circle(graph) is None


def test_no_folder_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        for module in imports(path):
            graph.setdefault(folder(name(path)), set()).update(map(folder, files_of(module)))
    assert circle({node: targets - {node} for node, targets in graph.items()}) is None


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_file_can_be_read_in_a_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{name(path)} has {lines} lines: it asks to be two files"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_function_can_be_understood_in_one_go(path: Path) -> None:
    """radon's ranks: A to C (at most 20 ways through). pyproject.toml bounds ruff's C901, which counts fewer things."""
    for block in cc_visit(path.read_text()):
        if not isinstance(block, Class):
            assert block.complexity <= 20, f"{name(path)}:{block.lineno} {block.name} has {block.complexity} ways through"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"
