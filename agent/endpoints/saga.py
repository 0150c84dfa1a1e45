"""A saga: steps in order. When one fails, what was done is undone in reverse."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from warren.errors import WarrenError

log = logging.getLogger("warren.endpoints")


def _nothing() -> None:
    """The undo of a step that leaves nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name in the log, what it does, and what undoes it, also when it is half done. A step that is `atomic` leaves nothing
    when it fails, so it need not be undone then."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] = _nothing
    atomic: bool = False


@dataclass(slots=True)
class Saga:
    """Runs steps. An undo that fails ends the undoing, because the undos before it would free what is still in use; `abandoned` is then called
    with the reason, and somebody else must finish."""

    abandoned: Callable[[WarrenError], None]
    durations_s: dict[str, float] = field(default_factory=dict)  # by name of the step

    def run(self, steps: Iterable[Step]) -> None:
        """Run all steps. Raises what the failed one raised."""
        done: list[Step] = []
        for step in steps:
            start = time.monotonic()
            try:
                step.do()
            except BaseException:
                self._undo(done if step.atomic else [*done, step])
                raise
            done.append(step)
            self.durations_s[step.name] = time.monotonic() - start

    def _undo(self, steps: list[Step]) -> None:
        for step in reversed(steps):
            try:
                step.undo()
            except WarrenError as error:
                self.abandoned(error)
                return

    def timings(self) -> str:
        """The durations for a log line: the sum, and each step's."""
        each = " ".join(f"{name}_ms={seconds * 1000:.1f}" for name, seconds in self.durations_s.items())
        return f"ms={sum(self.durations_s.values()) * 1000:.1f} {each}"
