"""The newest revisions of what this agent knows, by what they concern: the small kinds concern all hosts, a network's endpoints
those that read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from specs import keys

SMALL_KINDS = ""  # the scope of everything but endpoints


NOTHING: Mapping[str, int] = {}


class Revisions:
    """What the controller of a host must have applied to be current."""

    def __init__(self, newest: Mapping[str, int] = NOTHING) -> None:
        self._newest = {SMALL_KINDS: 0, **newest}  # by network

    def copy(self) -> Revisions:
        """Return these revisions, which do not change any more."""
        return Revisions(self._newest.copy())

    def note(self, key: str, revision: int) -> None:
        """Take note that a key was written with this revision."""
        if key.startswith(keys.SPEC):
            scope = keys.network_of(key) or SMALL_KINDS
            self._newest[scope] = max(self._newest.get(scope, 0), revision)

    @property
    def newest(self) -> int:
        """The newest revision that touched a spec."""
        return max(self._newest.copy().values())

    def wanted(self, networks: Iterable[str] | None) -> int:
        """The revision that a host must have applied that reads the endpoints of these networks (None: of all)."""
        if networks is None:
            return self.newest
        return max(self._newest.get(scope, 0) for scope in (SMALL_KINDS, *networks))
