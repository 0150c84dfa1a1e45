"""One name stands for one thing: no two modules define a public class or type of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("acl", "agent", "benchmarks", "controller", "intent", "mirror", "ovsdb", "pipeline", "specs", "tools", "warren")
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
