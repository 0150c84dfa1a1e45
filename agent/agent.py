"""The agent: its core, its features, and how they start and stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core import Core
from agent.feature import Feature
from agent.identity.registration import Registration
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.agent")


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent of one host. agent/composition.py builds it."""

    core: Core
    registration: Registration
    features: Sequence[Feature]

    def workers(self) -> list[Worker]:
        """Return the workers of all features, of the cache and of the registration."""
        of_features = [worker for feature in self.features for worker in feature.workers()]
        return [*of_features, *self.core.cache.workers(), self.registration.worker]

    def start(self) -> None:
        """Start all workers; they wait for etcd and OVSDB if these are unavailable."""
        self.core.ovsdb.connect()
        for worker in self.workers():
            worker.start()
        self.registration.publish()

    def ending(self) -> None:
        """Announce that the agent is about to stop, so that waiting requests finish. Does not wait for them."""
        for feature in self.features:
            feature.ending()
        self.core.cache.stop()  # waiting attaches undo their steps and answer with an error

    def stop(self) -> None:
        """Stop all workers, and close all features and connections."""
        for worker in self.workers():
            worker.stop()
        for feature in self.features:
            feature.close()
        self.core.cache.stop()
        self.registration.close()
        self.core.peers.close()
        self.core.ovsdb.close()


def differences(features: Sequence[Feature]) -> list[str]:
    """Return how this host differs from what the specs call for, a line each; a part that cannot be read is a line, too."""
    lines: list[str] = []
    for feature in features:
        try:
            lines += feature.differences()
        except (WarrenError, OSError) as error:
            lines.append(f"{type(feature).__name__}: cannot be compared: {error}")
    return lines


def problems(features: Sequence[Feature], workers: Sequence[Worker]) -> list[str]:
    """Return the problems of features and workers for `warren status`, a line each."""
    of_features = [line for feature in features for line in feature.problems()]
    return of_features + [line for worker in workers for line in worker.problems]
