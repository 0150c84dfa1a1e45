"""One name stands for one thing: no two modules define a public class or type of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = (
    "acl",
    "agent",
    "benchmarks",
    "controller",
    "intent",
    "mirror",
    "ovsdb",
    "pipeline",
    "specs",
    "tools",
    "underlay",
    "warren",
)
CLIENT = "warren/client/"  # imports nothing of the rest, so its results and errors bear the plain names


def types_of(source: str) -> Iterator[str]:
    """The public classes and type aliases of a module."""
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp()) if name != name.upper():
                yield name


def homes(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public names of types, with the modules that define them, where there are several."""
    modules: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for name in types_of(source):
            if not name.startswith("_"):
                modules[name].append(path)
    return {name: paths for name, paths in modules.items() if len(paths) > 1}


def test_one_name_one_type() -> None:
    files = (file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))
    sources = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    assert homes({path: source for path, source in sources.items() if not path.startswith(CLIENT)}) == {}


def test_two_types_of_one_name_are_seen() -> None:
    source = "class Lease: pass\nKey = tuple[str, str]\nLIMIT = 1 | 2\n"
    assert homes({"a.py": source, "b.py": source}) == {"Lease": ["a.py", "b.py"], "Key": ["a.py", "b.py"]}


VAGUE = frozenset(("found", "told", "asked", "said", "there", "wanted", "known", "own", "here", "ask", "tell", "say", "anew"))
CLEAN = (  # rooms without such a name; a room that becomes clean is added here
    "acl", "agent/api", "agent/capture", "agent/cni", "agent/connections", "agent/dhcp_client", "agent/endpoints", "agent/gateway", "agent/identity", "agent/linux",
    "benchmarks", "controller/apps", "controller/compiler", "controller/dhcp", "controller/openflow", "controller/telemetry",
    "controller/tunnels", "intent", "mirror", "ovsdb", "pipeline", "tests", "tools", "underlay",
)  # fmt: skip


def vague(source: str) -> list[str]:
    """The lines that give a variable, a parameter, an attribute, a function or a class (not a constant) a name that does not say what it is."""
    bound: list[tuple[int, str | None]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                bound.append((node.lineno, name))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.append((node.lineno, name))
            case ast.MatchAs(name=name) | ast.MatchStar(name=name):
                bound.append((node.lineno, name))
    return [
        f"{line}: {name}" for line, name in bound if name is not None and not name.isupper() and name.strip("_").lower() in VAGUE
    ]


def test_names_say_what_they_stand_for() -> None:
    for room in CLEAN:
        assert (ROOT / room).exists(), room
        files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
        lines = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in vague(file.read_text())]
        assert not lines, "say what it is: " + ", ".join(lines)


def test_a_vague_name_is_seen_wherever_it_is_bound() -> None:
    source = (
        "found = 1\nfor told, x in y: pass\ndef tell(own): self.known = 1\nclass Asked: pass\n"
        "match z:\n  case [there, *said]: pass\nwith a as here: pass\n"
    )
    assert [line.partition(": ")[2] for line in sorted(vague(source), key=lambda line: int(line.partition(":")[0]))] == [
        "found", "told", "tell", "own", "known", "Asked", "there", "said", "here",
    ]  # fmt: skip
    assert vague("found_rows = KNOWN = 1\nx = found.own\n") == []
