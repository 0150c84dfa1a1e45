"""The one loader of YAML: text into mappings and lists that know their lines, within limits. Pure.

libyaml gives the events, by way of PyYAML; this file gives them values by the rules of a `Dialect`. PyYAML's own loaders resolve every scalar
by regular expressions and make a node of it, which takes five times as long (docs/adr/0090-one-yaml-loader.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    MarkedYAMLError,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
    YAMLError,
)

from warren.errors import MISSING, Invalid


class Map(dict[Any, Any]):
    """A mapping that records the line of each key."""

    __slots__ = ("lines",)
    lines: dict[Any, int]


class List(list[Any]):
    """A list that records the line of each element."""

    __slots__ = ("lines",)
    lines: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The rules of one kind of text. Plain null and true are YAML 1.2's in all of them: `no` is text, and a MAC is no base-60 number."""

    text_limit: int  # characters of one text
    values_limit: int  # of all texts of a reader, aliases written out
    depth_limit: int
    number_limit: int  # characters: a conversion takes the square of them
    integer: re.Pattern[str]  # of the whole scalar
    decimal: re.Pattern[str]
    references: bool  # aliases, and merge keys
    keys: type | tuple[type, ...]
    keys_text: str


_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # for its events only
_TAG = "tag:yaml.org,2002:"
_WORDS = {"": None, "~": None} | {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_FIRST = frozenset(["", *"~nNtTfF-+0123456789<"])  # first characters of plain scalars that may be something else than text


class Reader:
    """Reads texts of one dialect, with one limit on the values in all of them."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._count = 0

    def data(self, text: str, file: str = "") -> Any:
        """Parse a text into `Map` and `List`. Raises `Invalid` with the line, after the file's name where there is one."""
        limit = self.dialect.text_limit
        self._file = file
        if len(text) > limit:
            expected = f"at most {limit} characters"
            raise Invalid(self._at(1), MISSING, expected, problem=f"{len(text)} characters: expected {expected}")
        self._anchors: dict[str, Any] = {}
        try:
            self._events: Iterator[Any] = iter(yaml.parse(text, _PARSER))
            return self._document()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = self._at(mark.line + 1 if mark else 1) + (f", column {mark.column + 1}" if mark and not file else "")
            raise Invalid(where, error.problem or error.context or "", "YAML") from None
        except (YAMLError, UnicodeError) as error:
            raise Invalid(self._at(1) if file else "document", str(error).splitlines()[0], "YAML text in UTF-8") from None

    def _at(self, line: int) -> str:
        return f"{self._file}:{line}" if self._file else f"line {line}"

    def _document(self) -> Any:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, StreamEndEvent):
            raise Invalid(
                self._at(following.start_mark.line + 1), MISSING, "one document", problem="a second document begins: expected one"
            )
        return value

    def _value(self, event: Any, depth: int) -> Any:
        """The value that begins with an event, inside `depth` collections."""
        self._counted(event)
        if isinstance(event, ScalarEvent | AliasEvent):
            return self._leaf(event, depth)
        line = event.start_mark.line + 1
        if depth >= self.dialect.depth_limit:
            raise self._too_deep(line)
        mapping = isinstance(event, MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}map" if mapping else f"{_TAG}seq"):
            raise Invalid(self._at(line), event.tag, "a plain YAML value")
        value = self._mapping(depth + 1) if mapping else self._sequence(depth + 1)
        return self._anchored(event, value)

    def _leaf(self, event: Any, depth: int) -> Any:
        return self._copy(event, self._target(event), depth) if isinstance(event, AliasEvent) else self._scalar(event)

    def _counted(self, event: Any) -> None:
        self._count += 1
        if self._count > self.dialect.values_limit:
            expected = f"at most {self.dialect.values_limit} values (aliases written out)"
            raise Invalid(self._at(event.start_mark.line + 1), MISSING, expected, problem=f"too much: expected {expected}")

    def _too_deep(self, line: int) -> Invalid:
        expected = f"at most {self.dialect.depth_limit} levels"
        return Invalid(self._at(line), MISSING, expected, problem=f"deep nesting: expected {expected}")

    def _anchored(self, event: Any, value: Any) -> Any:
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise Invalid(self._at(event.start_mark.line + 1), f"&{event.anchor}", "each anchor once")
            self._anchors[event.anchor] = value
        return value

    def _target(self, event: Any) -> Any:
        where = self._at(event.start_mark.line + 1)
        if not self.dialect.references:
            raise Invalid(where, f"*{event.anchor}", "no YAML aliases")
        if event.anchor not in self._anchors:
            raise Invalid(where, f"*{event.anchor}", "the alias of an anchor whose value ends before it")
        return self._anchors[event.anchor]

    def _copy(self, alias: Any, value: Any, depth: int) -> Any:
        """A copy for an alias, so that its size counts and its holder may change it."""
        if not isinstance(value, Map | List):
            return value
        if depth >= self.dialect.depth_limit:
            raise self._too_deep(alias.start_mark.line + 1)
        copy: Map | List
        if isinstance(value, Map):
            copy = Map((key, self._copied(alias, item, depth)) for key, item in value.items())
            copy.lines = dict(value.lines)
        else:
            copy = List(self._copied(alias, item, depth) for item in value)
            copy.lines = list(value.lines)
        return copy

    def _copied(self, alias: Any, item: Any, depth: int) -> Any:
        self._counted(alias)
        return self._copy(alias, item, depth + 1)

    def _sequence(self, depth: int) -> List:
        items = List()
        items.lines = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.lines.append(event.start_mark.line + 1)
            items.append(self._value(event, depth))
        return items

    def _mapping(self, depth: int) -> Map:
        stated, merged = Map(), Map()
        stated.lines, merged.lines = {}, {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = event.start_mark.line + 1
            merge = self.dialect.references and _merges(event)
            key = "<<" if merge else self._key(event, line)
            if key in stated.lines:
                raise Invalid(self._at(line), key, self.dialect.keys_text)
            stated.lines[key] = line
            value = self._value(next(self._events), depth)
            if merge:
                self._merge(merged, value, line)
            else:
                stated[key] = value
        if not merged:
            return stated
        result = Map(merged | stated)
        result.lines = merged.lines | stated.lines
        return result

    def _key(self, event: Any, line: int) -> Any:
        if not isinstance(event, ScalarEvent | AliasEvent):
            raise Invalid(
                self._at(line),
                MISSING,
                self.dialect.keys_text,
                problem=f"a list or a mapping as a key: expected {self.dialect.keys_text}",
            )
        key = self._target(event) if isinstance(event, AliasEvent) else self._scalar(event)
        if not isinstance(key, self.dialect.keys):
            raise Invalid(self._at(line), event.value if isinstance(event, ScalarEvent) else key, self.dialect.keys_text)
        return key

    def _merge(self, merged: Map, value: Any, line: int) -> None:
        """Add the keys of one mapping or several; an earlier one wins."""
        for part in value if isinstance(value, List) else [value]:
            if not isinstance(part, Map):
                raise Invalid(f"{self._at(line)}: <<", part, "a mapping or a list of mappings to merge")
            merged.lines = part.lines | merged.lines
            for key, item in part.items():
                merged.setdefault(key, item)

    def _scalar(self, event: Any) -> Any:
        text, tag = event.value, event.tag
        try:
            if tag is None or tag == "!":
                value = self._plain(text) if event.implicit[0] else text
            else:
                value = self._tagged(tag.removeprefix(_TAG), text)
        except ValueError:
            expected = "a plain YAML value"
            if len(text) > self.dialect.number_limit:
                expected = f"a number of at most {self.dialect.number_limit} characters"
            raise Invalid(self._at(event.start_mark.line + 1), text, expected) from None
        return self._anchored(event, value)

    def _plain(self, text: str) -> Any:
        """The value of a scalar without quotes and tag. Raises `ValueError`."""
        if text[:1] not in _FIRST:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text == "<<" and self.dialect.references:  # a merge key, which is no value
            raise ValueError(text)
        if self.dialect.integer.fullmatch(text):
            if len(text) > self.dialect.number_limit:
                raise ValueError(text)
            digits = text.replace("_", "")
            return int(digits, 10 if digits.lstrip("+-").isdigit() else 0)
        if self.dialect.decimal.fullmatch(text):
            return float(text.replace("_", ""))
        return text

    def _tagged(self, kind: str, text: str) -> Any:
        """The value of a scalar with a tag, which must be of that kind without it, too. Raises `ValueError`."""
        if kind == "str":
            return text
        value = self._plain(text)
        if kind == "float" and type(value) is int:
            return float(value)
        if kind not in _KINDS or type(value) is not _KINDS[kind]:
            raise ValueError(kind)
        return value


_KINDS = {"null": type(None), "bool": bool, "int": int, "float": float}


def _merges(event: Any) -> bool:
    return isinstance(event, ScalarEvent) and event.value == "<<" and (event.implicit[0] or event.tag == f"{_TAG}merge")


_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def line_of(data: Any, path: str) -> int | None:
    """The line (from 1) of the deepest part of a path below `data`, such as acls[0].rules[3].tcp_dst, that exists; None if none does."""
    line = None
    for name, index in _PART.findall(path):
        if name == "rules" and isinstance(data, List):
            continue  # an ACL written as NAME: [RULE, ...]
        child = _by_index(data, int(index)) if index else _by_name(data, name)
        if child is None:
            break
        line, data = child
    return line


def _by_index(data: Any, index: int) -> tuple[int, Any] | None:
    """An element's line and value. A section written as NAME: ... counts its keys."""
    if not isinstance(data, Map | List) or index >= len(data):
        return None
    key = list(data)[index] if isinstance(data, Map) else index
    return data.lines[key], data[key]


def _by_name(data: Any, name: str) -> tuple[int, Any] | None:
    """A key's line and value; paths do not name the `rule:` that may wrap a rule."""
    if not isinstance(data, Map):
        return None
    for key, value in data.items():
        if str(key) == name:
            return data.lines[key], value
    return _by_name(data.get("rule"), name)


def plain(data: Any) -> Any:
    """Convert the data to dict and list."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return [plain(item) for item in data] if isinstance(data, list) else data
