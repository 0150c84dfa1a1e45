"""HTTP requests as values, and steps of several requests as generators that any client can drive. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from warren.client.errors import Invalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `path` is quoted already, `body` is sent as JSON unless it is None. The answer is a JSON object, or with `text` any text. With
    `progress` the answer comes as lines of JSON: the function is called with each but the last, which is the answer."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    text: bool = False
    progress: Callable[[Mapping[str, Any]], object] | None = None


# Yields requests, is sent their answers, and returns its result.
Operation = Generator[Call, Any, T]


def get(path: str, **parameters: Any) -> Call:
    """A GET; parameters that are None are left out, booleans are sent as `true` and `false`."""
    return Call("GET", with_query(path, parameters))


def post(path: str, body: Mapping[str, Any]) -> Call:
    """A POST of JSON."""
    return Call("POST", path, body)


def patch(path: str, body: Mapping[str, Any]) -> Call:
    """A PATCH of JSON: what is not stated stays."""
    return Call("PATCH", path, body)


def delete(path: str, **parameters: Any) -> Call:
    """A DELETE."""
    return Call("DELETE", with_query(path, parameters))


def with_query(path: str, parameters: Mapping[str, Any]) -> str:
    """The path with a query, if there is something to ask."""
    stated = {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items() if value is not None
    }
    return f"{path}?{urlencode(stated)}" if stated else path


def path(collection: str, name: str, *more: str) -> str:
    """`/collection/name/more...` with the name quoted. Raises `Invalid` for a name that no object can have, such as an empty one. That of a network
    may be TENANT/NAME."""
    parts = name.split("/", 1) if collection == "networks" else [name]
    return "/".join(("", collection, *(_segment(part, "name", name) for part in parts), *more))


def endpoint_path(ref: str) -> str:
    """The path of an endpoint by its name, NETWORK/NAME (the network TENANT/NETWORK, too) or id. Raises `Invalid`."""
    return "/endpoints/" + "/".join(_segment(part, "endpoint", ref) for part in ref.split("/", 2))


def _segment(part: str, path: str, whole: str) -> str:
    """Return a name quoted as one segment of a path. Raises `Invalid` if it is empty, `.` or `..`, or has a slash."""
    if not part or part in (".", "..") or "/" in part:
        expected = "a name or an id" if path == "name" else "a name, NETWORK/NAME or an id"
        raise Invalid(
            f"{path}: {whole!r}: expected {expected}",
            400,
            {"kind": "invalid", "path": path, "value": repr(whole), "expected": expected},
        )
    return quote(part, safe="")


def stated(**values: Any) -> dict[str, Any]:
    """The values that are not None: a request names only what the caller wants. Raises `Invalid` for an empty text, which SAND's API would
    take for a value that is left out."""
    for name, value in values.items():
        if value == "":
            raise Invalid(
                f"{name} is empty: leave it out, or give a value", 400, {"kind": "invalid", "path": name, "expected": "a value"}
            )
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value is not None}
