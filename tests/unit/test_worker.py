"""Workers survive any exception of their step, and report it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.waiting import LIMIT_S, eventually
from warren import worker as module
from warren.errors import Unavailable
from warren.worker import Worker


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses after failures that a test can wait for."""
    monkeypatch.setattr(module, "BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return iter([None])


class Steps:
    """A step that fails with these errors, one after the other, and then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.items = list(errors), list[frozenset[str]]()
        self.succeeded = threading.Event()

    def __call__(self, items: frozenset[str]) -> None:
        self.items.append(items)
        if self.errors:
            raise self.errors.pop(0)
        self.succeeded.set()


def run(steps: Steps, *items: str) -> Worker:
    worker = Worker("tested", steps)
    worker.start()
    worker.wake(*items)
    assert steps.succeeded.wait(timeout=LIMIT_S)
    return worker


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError(), AssertionError(), Unavailable("etcd", "away"), RecursionError()]
)
def test_any_exception_is_survived_and_the_items_are_not_lost(error: Exception) -> None:
    steps = Steps(error, error, error)
    worker = run(steps, "one", "two")
    assert worker.alive
    assert steps.items == [frozenset({"one", "two"})] * 4
    worker.stop(10)
    assert not worker.alive


def test_an_internal_error_is_a_problem_until_the_next_success() -> None:
    reported: list[list[str]] = []
    steps = Steps(KeyError("secret"))
    worker = Worker("tested", steps, on_change=lambda: reported.append(worker.problems))
    worker.run_once()
    assert worker.problems == ["tested: internal error: KeyError"]
    worker.run_once()
    assert worker.problems == []
    assert reported == [["tested: internal error: KeyError"], []]


def test_a_warren_error_is_a_problem_in_full() -> None:
    worker = Worker("tested", Steps(Unavailable("etcd", "no answer")))
    worker.run_once()
    assert worker.problems == ["tested: etcd is unavailable: no answer"]


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (1.0, 30.0))
    steps = Steps(*(KeyError() for _ in range(8)))
    worker = Worker("tested", steps)
    assert [worker.run_once() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    worker.run_once()
    assert worker.run_once() is None
    steps.errors.append(KeyError())
    assert worker.run_once() == 1


def test_an_exception_of_a_listener_ends_no_loop() -> None:
    def fail() -> None:
        raise KeyError

    steps = Steps(ValueError())
    worker = Worker("tested", steps, on_change=fail)
    worker.start()
    worker.wake()
    assert steps.succeeded.wait(timeout=LIMIT_S)
    assert worker.alive
    worker.stop(10)


def test_a_step_says_when_it_wants_to_run_again() -> None:
    runs = threading.Semaphore(0)

    def step(items: frozenset[str]) -> float | None:
        runs.release()
        return 0.001

    worker = Worker("tested", step)
    worker.start()
    worker.wake()
    assert all(runs.acquire(timeout=30) for _ in range(3))
    worker.stop(10)


def test_items_of_a_wake_during_a_step_belong_to_the_next_step() -> None:
    entered, go_on, items = threading.Semaphore(0), threading.Semaphore(0), list[frozenset[str]]()

    def step(woken: frozenset[str]) -> None:
        items.append(woken)
        entered.release()
        go_on.acquire(timeout=30)

    worker = Worker("tested", step)
    worker.start()
    worker.wake("first")
    assert entered.acquire(timeout=30)
    worker.wake("second")
    go_on.release()
    assert entered.acquire(timeout=30)
    worker.stop()
    go_on.release()
    assert items == [frozenset({"first"}), frozenset({"second"})]


def test_without_wake_and_interval_nothing_runs() -> None:
    steps = Steps()
    worker = Worker("tested", steps)
    worker.start()
    worker.stop(10)
    assert steps.items == []


def test_a_worker_that_keeps_waiting_for_one_reason_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    reasons = iter(["down", "down", "slow", "slow"])

    def step(items: frozenset[str]) -> None:
        raise Unavailable("etcd", next(reasons))

    worker = Worker("waiting", step)
    with caplog.at_level("INFO", "warren.worker"):
        for _ in range(4):
            worker.run_once()
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["down", "slow"]


def test_a_step_leaves_most_of_the_time_to_others_while_wakes_pour_in() -> None:
    spent, seen = list[float](), set[str]()

    def step(items: frozenset[str]) -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.005:
            pass
        spent.append(0.005)
        seen.update(items)

    worker = Worker("busy", step)
    worker.start()
    began = time.monotonic()
    for number in range(200):
        worker.wake(str(number))
        time.sleep(0.002)
    eventually(lambda: len(seen) == 200)
    took = time.monotonic() - began
    worker.stop(LIMIT_S)
    assert sum(spent) <= 0.1 * took, "a fortieth, and the first step"
