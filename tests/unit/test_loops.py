"""The controller's loops survive any exception, and show it in the status."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from controller.loops import Loops
from tests.programs import program
from tests.waiting import LIMIT_S
from warren.errors import Invalid


class _EndOfTest(BaseException):
    pass


def run(outcomes: list[Exception | None], *, pause: bool = True) -> list[object]:
    """Run a loop whose steps end with these outcomes; return the problems whenever they changed, and the pauses in between."""
    events: list[object] = []
    rest: Iterator[Exception | None] = iter(outcomes)

    def step() -> None:
        for outcome in rest:
            if outcome is not None:
                raise outcome
            return
        raise _EndOfTest

    loops = Loops(lambda: events.append(loops.problems()), events.append)
    with pytest.raises(_EndOfTest):
        loops.repeat("audit", step, pause=pause)
    return events


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError(1), AssertionError(), OSError(5, "x"), Invalid("a", 1, "b")])
def test_an_exception_is_a_problem_until_the_next_success(error: Exception) -> None:
    assert run([error, None]) == [[f"audit: internal error: {type(error).__name__}"], 1, []]


def test_the_pause_doubles_up_to_30_seconds_and_begins_anew_after_a_success() -> None:
    error = RuntimeError()
    pauses = [event for event in run([error] * 7 + [None, error]) if not isinstance(event, list)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1]


def test_a_loop_without_pause_goes_on_at_once() -> None:
    assert run([RuntimeError(), RuntimeError(), None], pause=False) == [["audit: internal error: RuntimeError"], 0, 0, []]


def test_success_changes_no_status() -> None:
    assert run([None, None]) == []


def test_a_status_that_cannot_be_published_ends_no_loop() -> None:
    def fail() -> None:
        raise ValueError

    steps: list[Callable[[], None]] = [fail, lambda: None]

    def step() -> None:
        if not steps:
            raise _EndOfTest
        steps.pop(0)()

    loops = Loops(fail, lambda _: None)
    with pytest.raises(_EndOfTest):
        loops.repeat("audit", step)
    assert loops.problems() == []


@pytest.mark.parametrize("line", [b"{}\n", b'{"endpoints": [[1]]}\n', b"no JSON\n"])
def test_a_thread_of_the_feed_that_fails_ends_the_process(line: bytes) -> None:
    """The controller starts another; a process that lives on would write no report any more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            program("feed_without_etcd", theirs.fileno()), pass_fds=[theirs.fileno()], stderr=subprocess.PIPE
        )
        theirs.close()
        ours.sendall(line)
        assert b"feed.failed" in child.communicate(timeout=LIMIT_S)[1]
    assert child.returncode == 1
