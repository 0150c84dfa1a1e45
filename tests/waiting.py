"""Waiting for conditions. A wait ends as soon as its condition holds; the limit is generous, so no test's outcome depends on the machine's
speed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

LIMIT_S = 120.0 * float(os.environ.get("WARREN_LAB_PATIENCE") or 1)
PATIENTLY = f"-W{LIMIT_S:g}"  # for ping(8): how late an answer may come


def eventually(holds: Callable[[], object], timeout_s: float = 0.0) -> None:
    """Wait until the condition holds, at least `LIMIT_S` seconds. A condition may raise AssertionError as well as be false."""
    deadline = time.monotonic() + max(LIMIT_S, timeout_s)
    while True:
        try:
            if holds():
                return
            reason = "it does not hold"
        except AssertionError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within the time limit: {reason}")
        time.sleep(0.02)


def patiently(holds: Callable[[], bool]) -> bool:
    """Whether the condition holds within `LIMIT_S` seconds."""
    deadline = time.monotonic() + LIMIT_S
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def listening(dump: subprocess.Popen[str]) -> None:
    """Wait until a tcpdump has begun to listen. Its standard error is a pipe of its own, or that of its standard output."""
    stream = dump.stderr or dump.stdout
    assert stream is not None
    with ended_late(dump):
        while "listening" not in (line := stream.readline()):
            assert line, "tcpdump has ended"


def quiet(value: Callable[[], object], quiet_s: float = 0.7) -> None:
    """Wait until a value has not changed for a while."""
    before, since = value(), time.monotonic()
    while time.monotonic() < since + quiet_s:
        time.sleep(0.05)
        if (now := value()) != before:
            before, since = now, time.monotonic()


def read_until(process: subprocess.Popen[str], *words: str) -> str:
    """What a process prints, until all these words have come."""
    assert process.stdout is not None
    seen = ""
    with ended_late(process):
        while not all(word in seen for word in words):
            line = process.stdout.readline()
            assert line, f"it ended, or {LIMIT_S:g} s were over, before it said {words}: {seen}"
            seen += line
    return seen


@contextlib.contextmanager
def ended_late(process: subprocess.Popen[str]) -> Iterator[None]:
    """A context in which one reads what a process prints: after `LIMIT_S` seconds the process is killed, so that the reader gets an end."""
    timer = threading.Timer(LIMIT_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
