"""Splits OVSDB's stream of JSON texts and decodes each with the standard library's decoder. The `ovs` package without its C part
lexes character by character: 3 s for the first read of 5 000 ports, which would stall a whole eventlet process. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

_OUTSIDE = re.compile(r'[{}"]')
_INSIDE = re.compile(r'["\\]')


class Parser:
    """Same interface as `ovs.json.Parser`: one JSON object; `feed` says how much of its input it took."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._depth = 0
        self._string = False
        self._escape = False
        self._done = False

    def feed(self, text: str) -> int:
        """Take from `text` up to the end of the object; returns the number of characters taken."""
        at = 0
        while at < len(text) and not self._done:
            at = self._step(text, at)
        self._parts.append(text[:at])
        return at

    def _step(self, text: str, at: int) -> int:
        if self._escape:
            self._escape = False
            return at + 1
        found = (_INSIDE if self._string else _OUTSIDE).search(text, at)
        if found is None:
            return len(text)
        match found.group():
            case '"':
                self._string = not self._string
            case "\\":
                self._escape = True
            case "{":
                self._depth += 1
            case "}":
                self._depth -= 1
                self._done = self._depth <= 0
        return found.end()

    def is_done(self) -> bool:
        """The object is complete."""
        return self._done

    def finish(self) -> Any:
        """The decoded object; a text is an error message, as in `ovs.json`."""
        try:
            return json.loads("".join(self._parts))
        except ValueError as error:
            return f"bad JSON from ovsdb-server: {error}"
