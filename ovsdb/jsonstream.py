"""Splits OVSDB's stream of JSON texts and decodes each with the standard library's decoder. Pure.

Without its C part, the `ovs` package lexes character by character: the first read of 5 000 ports takes 3 s and would stall a
whole eventlet process.
"""

from __future__ import annotations

import json
import re
from typing import Any

_OUTSIDE = re.compile(r'[{}"]')
_INSIDE = re.compile(r'["\\]')


class Parser:
    """Decodes one JSON object, with the interface of `ovs.json.Parser`. `feed` returns how much of its input it consumed."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._depth = 0
        self._string = False
        self._escape = False
        self._done = False

    def feed(self, text: str) -> int:
        """Consume `text` up to the end of the object. Returns the number of characters consumed."""
        at = 0
        while at < len(text) and not self._done:
            at = self._step(text, at)
        self._parts.append(text[:at])
        return at

    def _step(self, text: str, at: int) -> int:
        if self._escape:
            self._escape = False
            return at + 1
        token = (_INSIDE if self._string else _OUTSIDE).search(text, at)
        if token is None:
            return len(text)
        match token.group():
            case '"':
                self._string = not self._string
            case "\\":
                self._escape = True
            case "{":
                self._depth += 1
            case "}":
                self._depth -= 1
                self._done = self._depth <= 0
        return token.end()

    def is_done(self) -> bool:
        """Whether the object is complete."""
        return self._done

    def finish(self) -> Any:
        """Return the decoded object, or a string with an error message, as `ovs.json` does."""
        try:
            return json.loads("".join(self._parts))
        except ValueError as error:
            return f"bad JSON from ovsdb-server: {error}"
