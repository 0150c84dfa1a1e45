"""The process's memory as the system sees it."""

from __future__ import annotations

import ctypes
import threading

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Give memory that is free again back to the system (malloc_trim(3)); after a full read it would stay with the process for good.
    It takes milliseconds. Without glibc nothing happens."""
    if _trim is not None:
        _trim(0)


def give_back_soon(seconds: float = 2.0) -> None:
    """Give memory back in a thread, once whoever called has let go of what was read."""
    timer = threading.Timer(seconds, give_back)
    timer.daemon = True
    timer.start()
