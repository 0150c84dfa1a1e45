"""Feature: the base class of the agent's parts. A subclass overrides the methods that it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from fastapi import APIRouter

from specs.model.endpoint import Endpoint
from warren.worker import Worker


class Feature:
    """A part of the agent. The agent starts and stops its workers, serves its routes, and reports its problems."""

    def workers(self) -> Sequence[Worker]:
        """Return the feature's workers."""
        return ()

    def router(self) -> APIRouter | None:
        """Return the feature's HTTP routes."""
        return None

    def problems(self) -> list[str]:
        """Return the feature's problems for `warren status`, a line each, without those of its workers."""
        return []

    def differences(self) -> list[str]:
        """Read this host, and return how it differs from what the specs call for, a line each: `subject: what is wrong`.
        `warren check HOST` shows them beside those of the switch. Changes nothing."""
        return []

    def leaving(self, endpoint: Endpoint) -> contextlib.AbstractContextManager[None]:
        """Return a context that encloses the removal of an endpoint: what it does on entry happens while packets still flow.
        When the removal fails, the context sees the exception."""
        return contextlib.nullcontext()

    def ending(self) -> None:
        """Let requests under way finish, because the agent is about to stop. Must not wait for them."""

    def close(self) -> None:
        """Release resources. Called after the feature's workers have been told to stop."""
