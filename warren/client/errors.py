"""What can go wrong between a program and an agent, as exceptions with fields.

Error                       every exception of this package
├── AgentUnreachable        no agent can be connected to; nothing was sent
├── NoAnswer                the request was sent, but no whole answer came: it may have been carried out
└── Refused                 the agent answers with an error: `status`, `kind`, `detail`
    ├── Invalid             a value is wrong or missing: `path`, `value`, `expected`
    ├── NotFound            no such object, or an agent that does not have this part of the API: `what`, `name`
    ├── Conflict            the request contradicts what exists: `field`, `holder`
    │   └── Exhausted       a pool of addresses or numbers has nothing left
    └── Unavailable         a daemon that the agent needs does not answer: `service`, `reason`
        └── LeaseExpired    etcd has ended a lease

Fields are None where the agent does not give them (SAND's agents give a message only).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Any failure of a call: its text is one line for people."""


class AgentUnreachable(Error):
    """No agent can be connected to. Nothing was sent, so trying again is safe."""


class NoAnswer(Error):
    """The agent did not answer in time, or broke the connection off. The request may have been carried out."""


class Refused(Error):
    """The agent, or this client before it asks one, refuses a request."""

    def __init__(self, message: str, status: int = 0, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.detail = status, dict(detail or {})
        self.kind: str = str(self.detail.get("kind") or "error")

    def _text(self, field: str) -> str | None:
        value = self.detail.get(field)
        return None if value is None else str(value)


class Invalid(Refused):
    """A value is wrong or missing."""

    @property
    def path(self) -> str | None:
        """Leads to the value, such as `networks[0].ip_range`."""
        return self._text("path")

    @property
    def value(self) -> str | None:
        """The value as text; None when it is missing."""
        return self._text("value")

    @property
    def expected(self) -> str | None:
        """What would be right."""
        return self._text("expected")


class NotFound(Refused):
    """An object does not exist, or the agent does not have this part of the API."""

    @property
    def what(self) -> str | None:
        """The kind of object."""
        return self._text("what")

    @property
    def name(self) -> str | None:
        """The name or id that was looked for."""
        return self._text("name")


class Conflict(Refused):
    """The request contradicts what exists."""

    @property
    def field(self) -> str | None:
        """The contested field of a record."""
        return self._text("field")

    @property
    def holder(self) -> str | None:
        """The object that has the contested value."""
        return self._text("holder")


class Exhausted(Conflict):
    """A pool of addresses or numbers has nothing left."""


class Unavailable(Refused):
    """A daemon that the agent needs does not answer."""

    @property
    def service(self) -> str | None:
        """The daemon."""
        return self._text("service")

    @property
    def reason(self) -> str | None:
        """Why it cannot be used."""
        return self._text("reason")


class LeaseExpired(Unavailable):
    """etcd has ended a lease."""


_BY_KIND: Mapping[str, type[Refused]] = {
    "invalid": Invalid,
    "not_found": NotFound,
    "conflict": Conflict,
    "exhausted": Exhausted,
    "unavailable": Unavailable,
    "lease_expired": LeaseExpired,
}
_BY_STATUS: Mapping[int, type[Refused]] = {
    400: Invalid,
    404: NotFound,
    405: NotFound,
    409: Conflict,
    413: Invalid,
    503: Unavailable,
}


def refusal(status: int, phrase: str, body: bytes) -> Refused:
    """The exception for an answer with a status of 400 or more."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    data = data if isinstance(data, dict) else {}
    detail = data.get("detail")
    detail = detail if isinstance(detail, dict) else {}
    message = data.get("error") or f"the agent answers {status} {phrase}".rstrip()
    error_class = _BY_KIND.get(str(detail.get("kind"))) or _BY_STATUS.get(status, Refused)
    return error_class(" ".join(str(message).split()), status, detail)
