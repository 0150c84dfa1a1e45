"""YAML as FAUCET's loader reads it, with the line of every key and element. It resolves aliases and merge keys within a
limit of size. Pure."""

from __future__ import annotations

import re
from typing import Any

import yaml

from warren.errors import MISSING, Invalid

TEXT_LIMIT = 10_000_000  # characters of one file
NODES_LIMIT = 2_000_000  # of all files, aliases written out
DEPTH_LIMIT = 64
NUMBER_LIMIT = 64  # characters


class Map(dict[Any, Any]):
    """A mapping that records the line of each key."""

    lines: dict[Any, int]


class List(list[Any]):
    """A list that records the line of each element."""

    lines: list[int]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The types of YAML 1.2 as FAUCET's loader (ruamel.yaml) has them: 0x800, 0o14, 0b1, 1_000; 0800 is 800; `yes` is a
    string; a MAC is a string and no base-60 number. `<<` merges."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_TAG = "tag:yaml.org,2002:"
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)\Z", list("-+0123456789")),
    ("float", r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)\Z", list("-+0123456789")),
    ("merge", r"<<\Z", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), _first)


class Reader:
    """Reads texts with one limit on the values in all of them."""

    def __init__(self) -> None:
        self._count = 0

    def data(self, text: str, file: str) -> Any:
        """Parse a text into `Map` and `List`. Raises `Invalid` with file and line."""
        if len(text) > TEXT_LIMIT:
            raise Invalid(
                f"{file}:1",
                MISSING,
                f"at most {TEXT_LIMIT} characters",
                problem=f"{len(text)} characters: expected at most {TEXT_LIMIT}",
            )
        try:
            depth = 0
            for number, event in enumerate(yaml.parse(text, _Loader)):  # flat: before anything is built from it
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > DEPTH_LIMIT or number > 2 * NODES_LIMIT:
                    raise _bomb(f"{file}:{event.start_mark.line + 1 if event.start_mark else 1}")
            return self._value(yaml.compose(text, _Loader), file, 0)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise Invalid(f"{file}:{mark.line + 1 if mark else 1}", error.problem or error.context or "", "YAML") from None
        except (yaml.YAMLError, UnicodeError) as error:
            raise Invalid(f"{file}:1", str(error).splitlines()[0], "YAML text in UTF-8") from None

    def _value(self, node: yaml.Node | None, file: str, depth: int) -> Any:
        """Build a node's data. An alias is built again each time, so that its size counts and its holder may change it."""
        if node is None:
            return None
        self._count += 1
        if self._count > NODES_LIMIT or depth > DEPTH_LIMIT:
            raise _bomb(f"{file}:{node.start_mark.line + 1}")
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = List(self._value(item, file, depth + 1) for item in node.value)
            items.lines = [item.start_mark.line + 1 for item in node.value]
            return items
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, file, depth)
        return _scalar(node, file)

    def _mapping(self, node: yaml.MappingNode, file: str, depth: int) -> Map:
        own, merged = Map(), Map()
        own.lines, merged.lines = {}, {}
        for key_node, value_node in node.value:
            where, merge = f"{file}:{key_node.start_mark.line + 1}", key_node.tag == _TAG + "merge"
            key = "<<" if merge else _scalar(key_node, file)
            if not isinstance(key, str | int) or key in own.lines:
                raise Invalid(where, key, "each key once, a word or a number")
            own.lines[key] = key_node.start_mark.line + 1
            value = self._value(value_node, file, depth + 1)
            if not merge:
                own[key] = value
                continue
            for part in value if isinstance(value, List) else [value]:
                if not isinstance(part, Map):
                    raise Invalid(f"{where}: <<", part, "a mapping or a list of mappings to merge")
                merged.lines = part.lines | merged.lines
                merged.update({k: v for k, v in part.items() if k not in merged})
        result = Map(merged | own)
        result.lines = merged.lines | own.lines
        return result


def _bomb(where: str) -> Invalid:
    expected = f"at most {NODES_LIMIT} values (aliases written out) and {DEPTH_LIMIT} levels"
    return Invalid(where, MISSING, expected, problem=f"too much: expected {expected}")


def _scalar(node: yaml.Node, file: str) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value if isinstance(node, yaml.ScalarNode) else None
    try:
        if text is not None:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool" if text.lower() in ("true", "false"):
                    return text.lower() == "true"
                case "int" if len(text) <= NUMBER_LIMIT:
                    plain = text.replace("_", "")
                    return int(plain, 10 if plain.lstrip("+-").isdigit() else 0)
                case "float":
                    return float(text.replace("_", ""))
    except ValueError:
        pass
    raise Invalid(f"{file}:{node.start_mark.line + 1}", node.tag if text is None else text, "a plain YAML value")


_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def line_of(data: Any, rest: str, line: int) -> int:
    """Return the line of the deepest existing item on a path below `data`, such as [2].tcp_dst, or `line` when none exists."""
    for name, index in _PART.findall(rest):
        key = int(index) if index else name
        if isinstance(data, Map) and key not in data and isinstance(data.get("rule"), Map):
            data = data["rule"]  # paths do not name the wrapper
        if not (isinstance(data, List) and isinstance(key, int) and key < len(data) or isinstance(data, Map) and key in data):
            break
        line, data = data.lines[key], data[key]
    return line


def plain(data: Any) -> Any:
    """Convert the data to dict and list."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return [plain(item) for item in data] if isinstance(data, list) else data
