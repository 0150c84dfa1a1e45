"""Keeps the garbage collector away while much is made that lives long."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

MANY = 100_000  # objects


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """A context without garbage collection: it would look at all records and views again and again while they are made, a quarter of the
    time of a cold start. If many objects were made, they are kept from it for good; what nobody needs any more is freed all the same,
    unless it is a cycle."""
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()
        gc.enable()
