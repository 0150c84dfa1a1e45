"""Loads YAML text as plain data, within limits of size and depth and without aliases; finds the line of a path in it. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from warren.errors import MISSING, Invalid

SIZE_LIMIT = 8_388_608  # bytes
DEPTH_LIMIT = 16
NUMBER_LIMIT = 50  # digits


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Only the core types of YAML 1.2: 12:34:56:11:22:33 is a MAC and not a base-60 number, and `no` is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_CORE = (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z|0x[0-9a-fA-F]+\Z", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?\Z", list("-+0123456789")),
)
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value in node.value:
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str) or key in result:
            raise Invalid(f"line {key_node.start_mark.line + 1}", key_node.value, "each key once, a plain word")
        result[key] = loader.construct_object(value, deep=True)
    return result


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    if len(node.value) > NUMBER_LIMIT:
        raise Invalid(
            f"line {node.start_mark.line + 1}", f"{len(node.value)} digits", f"a number of at most {NUMBER_LIMIT} digits"
        )
    return int(node.value, 0)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs) or any(isinstance(v, int) and v.bit_length() > 4 * NUMBER_LIMIT for v in data.values()):
        raise ValueError("a key twice, or a huge number")
    return data


def load(text: str) -> Any:
    """The data of a text. Raises `Invalid` with the line."""
    if len(text.encode(errors="surrogatepass")) > SIZE_LIMIT:
        expected = f"at most {SIZE_LIMIT} bytes"
        raise Invalid("document", MISSING, expected, problem=f"{len(text)} characters: expected {expected}")
    if text.startswith("{"):  # JSON is YAML; json is a hundred times faster. If it fails, YAML says what is wrong
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            pass
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):  # events come one by one: a bomb is refused before anything is built from it
            line = f"line {event.start_mark.line + 1 if event.start_mark else 0}"
            if isinstance(event, yaml.AliasEvent):
                raise Invalid(line, f"*{event.anchor}", "no YAML aliases")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT:
                raise Invalid(
                    line, MISSING, f"at most {DEPTH_LIMIT} levels", problem=f"deep nesting: expected at most {DEPTH_LIMIT} levels"
                )
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
        raise Invalid(where, error.problem or "", "YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise Invalid("document", str(error).splitlines()[0], "YAML text in UTF-8") from None


_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def line_of(text: str, path: str) -> int | None:
    """The line (from 1) of the deepest part of a path, such as acls[0].rules[3].tcp_dst, that the text has; None if it has none."""
    node, line = yaml.compose(text, _Loader), None
    for name, index in _PART.findall(path):
        if name == "rules" and isinstance(node, yaml.SequenceNode):
            continue  # an ACL written as NAME: [RULE, ...]
        child = _by_index(node, int(index)) if index else _by_name(node, name)
        if child is None:
            break
        key, node = child
        line = key.start_mark.line + 1
    return line


def _by_index(node: yaml.Node | None, index: int) -> tuple[yaml.Node, yaml.Node] | None:
    """An element and where it begins. A section written as NAME: ... counts its keys."""
    if not isinstance(node, yaml.CollectionNode) or index >= len(node.value):
        return None
    child = node.value[index]
    return child if isinstance(node, yaml.MappingNode) else (child, child)


def _by_name(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """A key and its value; paths do not name the `rule:` that may wrap a rule."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == name:
            return key, value
    return next((child for key, value in node.value if key.value == "rule" and (child := _by_name(value, name))), None)
