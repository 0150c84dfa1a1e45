"""A saga runs steps in order. When a step fails, it undoes the steps before it in reverse."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from warren.errors import WarrenError

log = logging.getLogger("warren.endpoints")


def _nothing() -> None:
    """The undo of a step that has nothing to undo."""


@dataclass(frozen=True, slots=True)
class SagaStep:
    """One step: its name in the log, its action, and the undo of its action. `undo` must also work after a half-done action.
    An `atomic` action changes nothing when it fails, so it needs no undo then."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] = _nothing
    atomic: bool = False


@dataclass(slots=True)
class Saga:
    """Runs steps. When an undo fails, the remaining ones are skipped, because they would release what is still in use;
    `abandoned` is then called with the error, and its owner must finish the undoing."""

    abandoned: Callable[[WarrenError], None]
    durations_s: dict[str, float] = field(default_factory=dict)  # step name -> duration

    def run(self, steps: Iterable[SagaStep]) -> None:
        """Run all steps. Raises the exception of the step that failed."""
        done: list[SagaStep] = []
        for step in steps:
            start = time.monotonic()
            try:
                step.do()
            except BaseException:
                self._undo(done if step.atomic else [*done, step])
                raise
            done.append(step)
            self.durations_s[step.name] = time.monotonic() - start

    def _undo(self, steps: list[SagaStep]) -> None:
        for step in reversed(steps):
            try:
                step.undo()
            except WarrenError as error:
                self.abandoned(error)
                return

    def timings(self) -> str:
        """Return the durations for a log line: the sum, and each step's."""
        each = " ".join(f"{name}_ms={seconds * 1000:.1f}" for name, seconds in self.durations_s.items())
        return f"ms={sum(self.durations_s.values()) * 1000:.1f} {each}"
