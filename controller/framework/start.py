"""How the controller's process begins and reads its settings again: one line and exit code 2 for wrong ones, SIGHUP for others."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from controller.framework.runtime import hub
from warren.errors import WarrenError
from warren.settings import log_level, reloaded

log = logging.getLogger("warren.overlay")
T = TypeVar("T")
_reloads: list[Callable[[], None]] = []
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again


def or_exit(read: Callable[[], T]) -> T:
    """Return what `read` returns; end the process when that raises because a setting is wrong."""
    try:
        return read()
    except WarrenError as error:
        print(f"warren-controller: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)  # the framework would print a traceback, and wait for its threads


def on_hangup(reload: Callable[[], None]) -> None:
    """Call `reload` at SIGHUP, besides reading the log's level."""
    _reloads.append(reload)
    signal.signal(signal.SIGHUP, lambda number, frame: hub.spawn(_reload))


def _reload(*_: Any) -> None:
    try:
        level = log_level(reloaded(os.environ))
        for reload in _reloads:
            reload()
    except (OSError, WarrenError) as error:
        log.warning("controller.reload_refused reason=%s", error)
        return
    logging.getLogger().setLevel(level)
    log.info("controller.reloaded level=%s", level)
