"""Errors carry fields, and quote only what the user wrote."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agent.api.apply import NotApplied
from agent.cni.attachments import code_of
from specs.documents.difference import Change
from warren.errors import MISSING, Conflict, Exhausted, Invalid, LeaseExpired, NotFound, Unavailable, WarrenError

ROOT = Path(__file__).parent.parent.parent


def test_a_missing_value_is_said_to_be_missing() -> None:
    error = Invalid("networks[0].ip_range", MISSING, "mode nat needs ip_range or ipv6_range")
    assert str(error) == "networks[0].ip_range is missing: mode nat needs ip_range or ipv6_range"
    assert error.fields() == {
        "kind": "invalid",
        "path": "networks[0].ip_range",
        "expected": "mode nat needs ip_range or ipv6_range",
    }


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("x", "'x'"),
        (True, "true"),
        (None, "null"),
        ([{"a": 1}], '[{"a": 1}]'),
        ("y" * 100, "'" + "y" * 76 + "..."),
        (10**5000, "a huge number"),
    ],
    ids=["text", "true", "null", "list", "long", "huge"],
)
def test_values_are_quoted_as_the_user_wrote_them(value: object, quoted: str) -> None:
    assert str(Invalid("a.b", value, "less")) == f"a.b: {quoted}: expected less"


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (NotFound("network", "amber"), {"kind": "not_found", "what": "network", "name": "amber"}),
        (Conflict("taken", field="name", holder="e1"), {"kind": "conflict", "field": "name", "holder": "e1"}),
        (Exhausted("none left"), {"kind": "exhausted"}),
        (Unavailable("etcd", "away"), {"kind": "unavailable", "service": "etcd", "reason": "away"}),
        (LeaseExpired("etcd", "gone"), {"kind": "lease_expired", "service": "etcd", "reason": "gone"}),
    ],
)
def test_fields(error: WarrenError, fields: dict[str, str]) -> None:
    assert error.fields() == fields


def test_no_code_looks_at_the_words_of_an_error() -> None:
    """`"..." in str(error)`, `error.reason.startswith(...)` and the like: words change, fields do not."""
    places = []
    for room in ("warren", "acl", "specs", "mirror", "intent", "ovsdb", "controller", "agent", "tools"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
                    for right in node.comparators:
                        text = ast.unparse(right)
                        if text in ("str(error)", "error.reason", "error.args[0]", "str(problem)"):
                            places.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert places == []


def test_no_message_has_a_value_that_nobody_wrote() -> None:
    places = []
    for room in ("warren", "acl", "specs", "mirror", "intent", "ovsdb", "controller", "agent", "tools"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Invalid" and len(node.args) > 1:
                    value = node.args[1]
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        places.append(f"{path.relative_to(ROOT)}:{node.lineno}: {value.value!r}")
    assert places == []


def test_cni_codes_follow_the_class() -> None:
    assert [code_of(error) for error in (Exhausted("x"), Conflict("x"), Unavailable("a", "b"))] == [101, 100, 11]


def test_a_change_that_is_refused_has_the_fields_of_its_cause() -> None:
    cause = Conflict("the name is taken", field="name", holder="network n1")
    error = NotApplied(Change("create", "network", "amber", None, "networks[0]", {}, {}), 1, 2, cause)
    assert str(error) == "networks[0]: the name is taken (1 of 2 changes were made)"
    assert (error.http_status, error.fields()) == (409, cause.fields())
