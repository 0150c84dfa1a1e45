"""The loader of YAML, in both dialects: types, lines, aliases, merge keys, and what it refuses with the line."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from acl.faucet.dialect import FAUCET
from specs.documents.text import DOCUMENT, load
from warren.errors import Invalid
from warren.yaml import Dialect, List, Map, Reader, line_of, plain

BOTH = pytest.mark.parametrize("dialect", [DOCUMENT, FAUCET], ids=["document", "faucet"])
REFUSED = object()


def read(text: str, dialect: Dialect, file: str = "") -> Any:
    return Reader(dialect).data(text, file)


def value(text: str, dialect: Dialect) -> Any:
    """The value of a scalar, or `REFUSED`."""
    try:
        return read(f"a: {text}", dialect)["a"]
    except Invalid:
        return REFUSED


@pytest.mark.parametrize(
    ("text", "document", "faucet"),
    [
        ("", None, None),
        ("~", None, None),
        ("NULL", None, None),
        ("nUll", "nUll", "nUll"),
        ("true", True, True),
        ("FALSE", False, False),
        ("yes", "yes", "yes"),
        ("on", "on", "on"),
        ("off", "off", "off"),
        ("0", 0, 0),
        ("-12", -12, -12),
        ("+12", 12, 12),
        ("0x800", 0x800, 0x800),
        ("-0x1F", "-0x1F", -0x1F),
        ("0800", "0800", 800),
        ("014", "014", 14),
        ("0o14", "0o14", 12),
        ("0b11", "0b11", 3),
        ("0b_", "0b_", REFUSED),
        ("1_000", "1_000", 1000),
        ("_1", "_1", "_1"),
        ("1.5", 1.5, 1.5),
        ("1.5e-3", 1.5e-3, 1.5e-3),
        ("1e3", "1e3", 1e3),
        ("1.", "1.", 1.0),
        (".5", ".5", ".5"),
        (".inf", ".inf", ".inf"),
        ("11:22:33:44:55:06", "11:22:33:44:55:06", "11:22:33:44:55:06"),
        ("12:30", "12:30", "12:30"),
        ("2026-11-27", "2026-11-27", "2026-11-27"),
        ("fd00::1", "fd00::1", "fd00::1"),
        ("'1'", "1", "1"),
        ('"true"', "true", "true"),
        ("''", "", ""),
        ("!!str 5", "5", "5"),
        ("!!str", "", ""),
        ("!!int 5", 5, 5),
        ("!!int x", REFUSED, REFUSED),
        ("!!int 1.5", REFUSED, REFUSED),
        ("!!float 1", 1.0, 1.0),
        ("!!float nan", REFUSED, REFUSED),
        ("!!bool true", True, True),
        ("!!null ~", None, None),
        ("!!null x", REFUSED, REFUSED),
        ("!mine x", REFUSED, REFUSED),
        ("!!python/name:os.system ''", REFUSED, REFUSED),
        ("!!set {x}", REFUSED, REFUSED),
        ("!!map [x]", REFUSED, REFUSED),
        ("!!seq {x: 1}", REFUSED, REFUSED),
        ("!!binary aGk=", REFUSED, REFUSED),
        ("<<", "<<", REFUSED),
        ("'<<'", "<<", "<<"),
        ("9" * 50, int("9" * 50), int("9" * 50)),
        ("9" * 51, REFUSED, int("9" * 51)),
        ("9" * 65, REFUSED, REFUSED),
        ("0x" + "f" * 63, REFUSED, REFUSED),
        ("[a, *x]", REFUSED, REFUSED),
    ],
)
def test_scalars(text: str, document: Any, faucet: Any) -> None:
    for dialect, expected in ((DOCUMENT, document), (FAUCET, faucet)):
        result = value(text, dialect)
        assert (type(result), result) == (type(expected), expected)


@BOTH
def test_every_key_and_element_has_its_line(dialect: Dialect) -> None:
    data = read("# a comment\na: 1\nb:\n- x\n-\n  - y\n  - {c: 1,\n     d: 2}\n", dialect)
    assert (type(data), data.lines) == (Map, {"a": 2, "b": 3})
    assert (type(data["b"]), data["b"].lines) == (List, [4, 6])
    assert data["b"][1].lines == [6, 7]
    assert data["b"][1][1].lines == {"c": 7, "d": 8}
    assert plain(data) == {"a": 1, "b": ["x", ["y", {"c": 1, "d": 2}]]}
    assert type(plain(data)["b"]) is list


@BOTH
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("acls", 1),
        ("acls[0]", 2),
        ("acls[0].rules[1].tcp_dst", 5),
        ("acls[1].rules[0].tcp_dst", 7),
        ("acls[0].rules[9]", 2),
        ("nothing", None),
    ],
)
def test_the_line_of_a_path(dialect: Dialect, path: str, line: int | None) -> None:
    text = "acls:\n  web:\n  - {proto: tcp}\n  - rule:\n      tcp_dst: 80\n  db:\n  - tcp_dst: 5432\n"
    assert line_of(read(text, dialect), path) == line


@BOTH
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", 3),
        ("a: 1\n[b]: 2", 2),
        ("a: 1\n? {b: 1}\n: 2", 2),
        ("a: 1\n~: 2", 2),
        ("a: 1\n2.5: 2", 2),
        ("a: 1\n---\nb: 2", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: 1\nb: [1, }", 2),
        ("a: 1\nb: @x", 2),
        ("a: &x 1\nb: &x 2\nc: [*x, *y]", 2),
        ("a: 1\nb: *x", 2),
        ("a: 1\nb: !mine {c: 1}", 2),
        ("a: 1\nb:\n  - !!int [1]", 3),
        ("a: 1\n" + "b: " + "[" * 100_000, 2),
        ("a: 1\n" + "b: " + "{c: " * 100_000, 2),
        ("\n" + "- " * 100_000, 2),
    ],
    ids=range(16),
)
def test_refused_with_the_line(dialect: Dialect, text: str, line: int) -> None:
    with pytest.raises(Invalid) as error:
        read(text, dialect)
    assert error.value.path.partition(",")[0] == f"line {line}"
    assert len(str(error.value)) < 300
    with pytest.raises(Invalid) as error:
        read(text, dialect, "some.yaml")
    assert error.value.path == f"some.yaml:{line}"


@BOTH
def test_a_syntax_error_in_a_document_has_its_column(dialect: Dialect) -> None:
    with pytest.raises(Invalid, match="^line 1, column 5: "):
        read("a: b: c", dialect)


@BOTH
@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_text_is_null(dialect: Dialect, text: str) -> None:
    assert read(text, dialect) is None


def test_a_document_has_no_aliases() -> None:
    with pytest.raises(Invalid, match="^line 2: .*no YAML aliases"):
        read("a: &x 1\nb: *x", DOCUMENT)


def test_each_use_of_an_alias_is_a_copy_with_the_lines_of_its_anchor() -> None:
    data = read("a: &x\n  b: [1]\nc: *x\nd: [*x]\n", FAUCET)
    assert data["a"] == data["c"] == data["d"][0] == {"b": [1]}
    assert data["c"].lines == {"b": 2}
    assert data["d"].lines == [4]
    data["c"]["b"].append(2)
    assert data["a"] == data["d"][0] == {"b": [1]}


def test_merge_keys_give_way_to_the_mappings_own_keys_and_to_earlier_ones() -> None:
    data = read("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  c: 3\n  <<: [*x, *y]\nw: {<<: *x}", FAUCET)
    assert data["z"] == {"a": 1, "b": 1, "c": 3}
    assert data["z"].lines == {"a": 1, "b": 1, "c": 4, "<<": 5}
    assert data["w"] == {"a": 1, "b": 1}
    with pytest.raises(Invalid, match="^line 2: <<: 1: expected a mapping"):
        read("a: 1\n<<: 1", FAUCET)
    assert read("<<: {a: 1}", DOCUMENT) == {"<<": {"a": 1}}  # the sections of a document refuse it


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_an_alias_inside_its_own_anchor_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="^line 1: .*an anchor whose value ends before it"):
        read(text, FAUCET)


def test_aliases_count_with_what_they_stand_for() -> None:
    wide = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))])
    with pytest.raises(Invalid, match="^line [78]: too much"):
        read(wide, FAUCET)
    deep = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 70))])
    with pytest.raises(Invalid, match="^line 64: deep nesting: expected at most 64 levels"):
        read(deep, FAUCET)


@BOTH
def test_the_depth_limit_is_exact(dialect: Dialect) -> None:
    limit = dialect.depth_limit
    assert read("[" * limit + "]" * limit, dialect) is not None
    with pytest.raises(Invalid, match="deep nesting"):
        read("[" * (limit + 1) + "]" * (limit + 1), dialect)


LEAVES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(st.characters(codec="utf-8"), max_size=12)
DATA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1~.", min_size=1), inner, max_size=3)
)


@given(DATA)
def test_what_is_dumped_is_read_back(data: Any) -> None:
    """An export is a document that `apply` takes."""
    assert load(pyyaml.safe_dump(data, allow_unicode=True)) == data
    assert load(json.dumps({"a": data})) == {"a": data}
