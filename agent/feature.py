"""Feature: what every part of the agent may contribute to it. A part overrides what it has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from fastapi import APIRouter

from agent.worker import Worker
from specs.model.endpoint import Endpoint


class Feature:
    """A part of the agent. The agent starts and stops its workers, serves its routes, and reports its problems."""

    def workers(self) -> Sequence[Worker]:
        """Its loops."""
        return ()

    def router(self) -> APIRouter | None:
        """Its HTTP routes."""
        return None

    def problems(self) -> list[str]:
        """What `warren status` shows of it, a line each; the problems of its workers come by themselves."""
        return []

    def leaving(self, endpoint: Endpoint) -> contextlib.AbstractContextManager[None]:
        """A context around the end of an endpoint: what has to happen while its packets still flow. If that end fails, so does the context."""
        return contextlib.nullcontext()

    def ending(self) -> None:
        """The agent is about to stop: let requests under way come to their end. Does not wait."""

    def close(self) -> None:
        """Release what it holds. Called after its workers have stopped."""
