"""YAML text as plain data: small, flat, without aliases; and the line at which a path of the data stands. Pure."""

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
    """YAML 1.2's core types only: 12:34:56:11:22:33 is a MAC and no base-60 number, and `no` is a word."""

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
    found = dict(pairs)
    if len(found) != len(pairs) or any(isinstance(v, int) and v.bit_length() > 4 * NUMBER_LIMIT for v in found.values()):
        raise ValueError("a key twice, or a huge number")
    return found


def load(text: str) -> Any:
    """The data of a text. Raises `Invalid` with the line."""
    if len(text.encode(errors="surrogatepass")) > SIZE_LIMIT:
        expected = f"at most {SIZE_LIMIT} bytes"
        raise Invalid("document", MISSING, expected, problem=f"{len(text)} characters: expected {expected}")
    if text.startswith("{"):  # JSON is YAML, and read a hundred times faster; what is wrong with it is told by the slow way
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            pass
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):  # flat: a bomb is seen before anything is built from it
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
    """The line (from 1) of the deepest thing on the path, such as acls[0].rules[3].tcp_dst, that the text has; None for none."""
    node = yaml.compose(text, _Loader)
    line = None
    for name, index in _PART.findall(path):
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == name), None)
            if found is None and (wrapped := next((v for k, v in node.value if k.value == "rule"), None)) is not None:
                found = next(((k, v) for k, v in wrapped.value if k.value == name), None)
        if found is None and isinstance(node, yaml.MappingNode) and index and int(index) < len(node.value):
            found = node.value[int(index)]  # a section written as NAME: ...
        elif isinstance(node, yaml.SequenceNode) and name == "rules":
            continue
        elif isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
            found = (node.value[int(index)],) * 2
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
