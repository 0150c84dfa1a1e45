"""Turns pydantic's errors into `Invalid`: the path of the wrong value, and what is expected there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from warren.errors import MISSING, Invalid

_OF_PYDANTIC = ("function", "lax-or-strict", "literal[")  # parts of a location that name a validator, or a member of a union

NEEDED = "needed"  # type of an error about a field that is missing beside the other fields; its message says what is expected

_EXPECTED = {
    "missing": "it is required",
    "ip_v4_network": "an IPv4 range in CIDR form without host bits, such as 10.0.0.0/24",
    "ip_v6_network": "an IPv6 range in CIDR form without host bits, such as fd00:1::/64",
    "ip_v4_interface": "an IPv4 address with prefix length, such as 10.0.0.1/24",
    "ip_v6_interface": "an IPv6 address with prefix length, such as fd00:1::1/64",
    "ip_v4_address": "an IPv4 address, such as 10.0.0.2",
    "ip_v6_address": "an IPv6 address, such as fd00:1::2",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
    "string_type": "text (quote the value)",
}
_WORDS = {
    "Input should be greater than or equal to ": "at least ",
    "Input should be less than or equal to ": "at most ",
    "Input should be ": "",
}


def expectation(kind: str, message: str) -> str:
    """The expected value in words, from the type and message of a pydantic error."""
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    for pydantics, ours in _WORDS.items():
        if message.startswith(pydantics):
            return message.replace(pydantics, ours, 1)
    return message[0].lower() + message[1:]


def path_of(location: Iterable[str | int], path: str = "") -> str:
    """A path such as dns[0].port below another one, from pydantic's location of a value."""
    for part in location:
        if str(part).startswith(_OF_PYDANTIC):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def expected_first(errors: Sequence[Any]) -> str:
    """What is expected where the first of pydantic's errors is: of a value that may be one of several kinds, each kind."""
    where = path_of(errors[0]["loc"])
    kinds = [expectation(error["type"], error["msg"]) for error in errors if path_of(error["loc"]) == where]
    return ", or ".join(dict.fromkeys(kinds))


def invalid(error: ValidationError, path: str = "") -> Invalid:
    """The first problem of a pydantic error as `Invalid`."""
    errors = error.errors(include_url=False)
    first, expected = errors[0], expected_first(errors)
    where, kind = path_of(first["loc"], path), first["type"]
    if kind == "extra_forbidden":
        return Invalid(where, first["input"], "a field that exists", problem="there is no such field (is it spelt right?)")
    if isinstance(first["input"], dict) and kind == "value_error":  # about a record as a whole
        return Invalid(where or path or "document", first["input"].get("name", MISSING), expected, problem=f"expected {expected}")
    return Invalid(where or path or "document", MISSING if kind in ("missing", NEEDED) else first["input"], expected)
