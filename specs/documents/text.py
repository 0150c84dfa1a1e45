"""Loads a document's text, YAML or JSON, as plain data, without aliases; finds the line of a path in it. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from warren import yaml
from warren.errors import MISSING, Invalid

SIZE_LIMIT = 8_388_608  # bytes

DOCUMENT = yaml.Dialect(
    text_limit=SIZE_LIMIT,
    values_limit=SIZE_LIMIT,
    depth_limit=16,
    number_limit=50,
    integer=re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+"),
    decimal=re.compile(r"[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?"),
    references=False,
    keys=str,
    keys_text="each key once, a plain word",
)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs) or any(isinstance(v, int) and v.bit_length() > 4 * DOCUMENT.number_limit for v in data.values()):
        raise ValueError("a key twice, or a huge number")
    return data


def load(text: str, size_limit: int = SIZE_LIMIT) -> Any:
    """The data of a text of at most so many bytes. Raises `Invalid` with the line."""
    if len(text.encode(errors="surrogatepass")) > size_limit:
        expected = f"at most {size_limit} bytes"
        raise Invalid("document", MISSING, expected, problem=f"{len(text)} characters: expected {expected}")
    if text.startswith("{"):  # JSON is YAML; json is a hundred times faster. If it fails, YAML says what is wrong
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            pass
    return yaml.plain(yaml.Reader(replace(DOCUMENT, text_limit=size_limit, values_limit=size_limit)).data(text))


def line_of(text: str, path: str) -> int | None:
    """The line (from 1) of the deepest part of a path, such as acls[0].rules[3].tcp_dst, that the text has; None if it has none, or if the
    text is JSON on one line, which a program has written."""
    if text.startswith("{") and "\n" not in text.strip() and '"' in text[:3]:
        return None
    return yaml.line_of(yaml.Reader(DOCUMENT).data(text), path)
