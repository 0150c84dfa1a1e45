"""Gives a container's interface its MAC after Docker has given it another one.

Docker takes a MAC when the endpoint is made; a prefix that a label asks for is known only when the container joins. Docker then moves
the interface and sets what it knows, so the right one is set after that: before the container's process runs, as a rule.
"""

from __future__ import annotations

import logging
import time

from agent import plug
from specs.errors import WarrenError

log = logging.getLogger("warren.docker")

PAUSE_S, LIMIT_S = 0.002, 15.0


def follow(sandbox: str, veth: str, known: str, wanted: str) -> None:
    """Wait until the interface is up in the namespace `sandbox` (a path) with the MAC that Docker knows, and change it."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and plug.exists(veth):
        try:
            if plug.change_mac(veth, sandbox, known, wanted):
                return
        except WarrenError:
            pass  # the namespace comes with the container's process
        time.sleep(PAUSE_S)
    log.info("mac.kept veth=%s mac=%s: Docker has not plugged it in", veth, known)
