"""The errors that users see. Each knows the HTTP status that it means; on the command line all exit with 2.

WarrenError
├── Invalid       400  a value is wrong: path, value, and what would be right
├── NotFound      404  no such object
├── Conflict      409  the object, name, number or address is somebody else's
│   └── Exhausted 409  a pool has nothing left
└── Unavailable   503  etcd, ovsdb or another daemon does not answer
"""

from __future__ import annotations


class WarrenError(Exception):
    """Any error told to a user: one line, no traceback."""

    http_status = 500
    exit_code = 2


class Invalid(WarrenError):
    """A wrong value: `path` leads to it, `expected` says what would be right."""

    http_status = 400

    def __init__(self, path: str, value: object, expected: str) -> None:
        self.path, self.value, self.expected = path, value, expected
        try:
            shown = repr(value)
        except ValueError:  # an integer of thousands of digits
            shown = "a huge number"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{path}: {shown}: expected {expected}")


class NotFound(WarrenError):
    """An object that the request names does not exist."""

    http_status = 404

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"{kind} {name!r} does not exist")


class Conflict(WarrenError):
    """The request contradicts what exists; the message names the holder."""

    http_status = 409


class Exhausted(Conflict):
    """A pool of addresses or numbers has nothing left."""


class Unavailable(WarrenError):
    """A daemon that Warren stands on does not answer; nothing was changed, or the reason says so."""

    http_status = 503

    def __init__(self, service: str, reason: str) -> None:
        self.service, self.reason = service, reason
        super().__init__(f"{service} is unavailable: {reason}")
