"""The agent: its core, its features, and its life."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core import Core
from agent.feature import Feature
from agent.registration import Registration
from agent.worker import Worker

log = logging.getLogger("warren.agent")


@dataclass(frozen=True, slots=True)
class Agent:
    """One host's agent. agent/composition.py builds it."""

    core: Core
    registration: Registration
    features: Sequence[Feature]

    def workers(self) -> list[Worker]:
        """All loops of this agent."""
        of_features = [worker for feature in self.features for worker in feature.workers()]
        return [*of_features, *self.core.cache.workers(), self.registration.worker]

    def start(self) -> None:
        """Start all workers; none of them needs etcd or OVSDB to be there."""
        self.core.ovsdb.connect()
        for worker in self.workers():
            worker.start()
        self.registration.publish()

    def ending(self) -> None:
        """The agent is about to stop: requests that wait come to their end. Does not wait."""
        for feature in self.features:
            feature.ending()
        self.core.cache.stop()  # wakes the attaches that wait: they undo what they have done, and answer

    def stop(self) -> None:
        """Stop everything, quickly."""
        for worker in self.workers():
            worker.stop()
        for feature in self.features:
            feature.close()
        self.core.cache.stop()
        self.registration.close()
        self.core.peers.close()
        self.core.ovsdb.close()


def problems(features: Sequence[Feature], workers: Sequence[Worker]) -> list[str]:
    """What `warren status` shows of features and workers, a line each."""
    of_features = [line for feature in features for line in feature.problems()]
    return of_features + [line for worker in workers for line in worker.problems]
