"""How the controller's process begins and reads its settings again: one line and exit code 2 for wrong ones, SIGHUP for others."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from controller.framework.runtime import hub
from specs.store.tls import EtcdTls
from warren.errors import WarrenError
from warren.settings import LOG_FORMAT, Settings, log_level, reloaded, settings

log = logging.getLogger("warren.overlay")
T = TypeVar("T")
_reloads: list[Callable[[], None]] = []
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again


def begin(reload: Callable[[], None]) -> Settings:
    """Return the settings, or end the process; let the log be written in Warren's form, and call `reload` at SIGHUP."""
    for handler in logging.getLogger().handlers:  # Ryu's own format has neither time nor level
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
    on_hangup(reload)
    return or_exit(_checked_settings)


def _checked_settings() -> Settings:
    """Return the settings. Raises `Invalid`, also for files of TLS that the connection to etcd could not use."""
    config = settings(os.environ)
    EtcdTls(config.etcd_cert, config.etcd_key, config.etcd_ca).check()
    if "WARREN_LOG" in os.environ:
        logging.getLogger().setLevel(log_level(os.environ))
    return config


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
