"""Pydantic's errors in words: the path of the wrong value, and all that would be right there."""

from __future__ import annotations

from typing import Any

import pytest

from specs.model.base import decode
from specs.model.profile import Profile
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (60, "'auto', or at least 576"),
        (70_000, "'auto', or at most 65535"),
        ("most", "'auto', or a whole number"),
        (True, "'auto', or a whole number, not true or false"),
    ],
)
def test_of_a_value_of_several_kinds_each_is_told(value: Any, expected: str) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(Profile, {"name": "p", "port": 4790, "hosts": ["all"], "mtu": value}, "profile")
    assert (refusal.value.path, refusal.value.expected) == ("profile.mtu", expected)
