"""The errors that users see. Each knows the HTTP status that it means; on the command line all exit with 2.

WarrenError
├── Invalid          400  a value is wrong or missing: path, value, and what would be right
├── NotFound         404  no such object
├── Conflict         409  somebody else has the object, name, number or address
│   └── Exhausted    409  a pool has nothing left
└── Unavailable      503  etcd, ovsdb or another daemon does not answer
    └── LeaseExpired 503  etcd has ended a lease

Code that reacts to an error looks at its class and its fields, never at the words of its message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Final

SHOWN = 80  # characters of a value in a message
PATH_SHOWN = 200
NEAR_SHOWN = 5


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""In place of a value that the user did not give: messages quote only what somebody wrote."""


class WarrenError(Exception):
    """Base of all errors for users: one line, no traceback."""

    http_status = 500
    exit_code = 2
    kind: ClassVar[str] = "error"

    def fields(self) -> dict[str, Any]:
        """Return the error as JSON data, without its message: `kind` and the fields of its class."""
        return {"kind": self.kind}


class Invalid(WarrenError):
    """A wrong value: `path` leads to it, `expected` says what would be right. With `MISSING` as the value, something is missing that
    should stand at `path`, and `expected` says why. `problem` replaces the sentence about the value. `line` is that of a text."""

    http_status = 400
    kind = "invalid"

    def __init__(self, path: str, value: object, expected: str, *, problem: str | None = None, line: int | None = None) -> None:
        self.path, self.value, self.expected, self.problem, self.line = path, value, expected, problem, line
        place = path if path.isprintable() and len(path) <= PATH_SHOWN else shown(path)
        if problem is not None:
            message = f"{place}: {problem}"
        elif value is MISSING:
            message = f"{place} is missing: {expected}"
        else:
            message = f"{place}: {shown(value)}: expected {expected}"
        super().__init__(f"line {line}: {message}" if line is not None else message)

    def at(self, path: str) -> Invalid:
        """The same error at another path."""
        return Invalid(path, self.value, self.expected, problem=self.problem, line=self.line)

    def on(self, line: int | None) -> Invalid:
        """The same error with the line of the text, if it is known, at which the path is."""
        return Invalid(self.path, self.value, self.expected, problem=self.problem, line=line)

    def fields(self) -> dict[str, Any]:
        """`path`, `expected`, and `value` and `line` where there are any."""
        data: dict[str, Any] = {"kind": self.kind, "path": self.path, "expected": self.expected}
        data |= {"line": self.line} if self.line is not None else {}
        return data if self.value is MISSING else data | {"value": shown(self.value)}


class NotFound(WarrenError):
    """An object that the request names does not exist."""

    http_status = 404
    kind = "not_found"

    def __init__(self, what: str, name: str, near: Iterable[str] = ()) -> None:
        self.what, self.name, self.near = what, name, tuple(sorted(near))[:NEAR_SHOWN]
        hint = f" (did you mean {' or '.join(self.near)}?)" if self.near else ""
        super().__init__(f"{what} {name!r} does not exist{hint}")

    def fields(self) -> dict[str, Any]:
        """`what` kind of object, its `name`, and names that are `near`, where there are any."""
        return {"kind": self.kind, "what": self.what, "name": self.name} | ({"near": list(self.near)} if self.near else {})


class Conflict(WarrenError):
    """The request contradicts an existing object. `field` is the contested field of a record, `holder` who has it, where that is known."""

    http_status = 409
    kind = "conflict"

    def __init__(self, message: str, *, field: str | None = None, holder: str | None = None) -> None:
        self.field, self.holder = field, holder
        super().__init__(message)

    def fields(self) -> dict[str, Any]:
        """`field` and `holder`, where they are known."""
        data = {"kind": self.kind, "field": self.field, "holder": self.holder}
        return {name: value for name, value in data.items() if value is not None}


class Exhausted(Conflict):
    """A pool of addresses or numbers has nothing left."""

    kind = "exhausted"


class Unavailable(WarrenError):
    """A daemon that Warren needs does not answer. Nothing was changed, unless the reason says otherwise."""

    http_status = 503
    kind = "unavailable"

    def __init__(self, service: str, reason: str) -> None:
        self.service, self.reason = service, reason
        super().__init__(f"{service} is unavailable: {reason}")

    def fields(self) -> dict[str, Any]:
        """The `service` and the `reason`."""
        return {"kind": self.kind, "service": self.service, "reason": self.reason}


class LeaseExpired(Unavailable):
    """etcd does not have the lease (any more) that a key should stand under."""

    kind = "lease_expired"


def shown(value: object) -> str:
    """A value for a message: text in quotes, anything else as JSON has it, cut after 80 characters."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError):  # an integer of thousands of digits, a circle
        text = "a huge number" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
