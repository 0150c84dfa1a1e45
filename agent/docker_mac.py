"""Gives a container's interface its MAC after Docker has given it another one.

Docker takes a MAC when the endpoint is made; a prefix that a label asks for is known only when the container joins. Docker then moves
the interface and sets what it knows, so the right one is set after that: before the container's process runs, as a rule.
"""

from __future__ import annotations

import logging
import re
import time

from agent import plug
from specs.errors import WarrenError

log = logging.getLogger("warren.docker")

PAUSE_S, LIMIT_S = 0.002, 15.0
# an agent in a container does not see the host's mounts; with the host's pids it sees its first process
OF_THE_HOST = "/proc/1/root"


def follow(sandbox: str, veth: str, known: str, wanted: str) -> None:
    """Wait until the interface is up in the namespace `sandbox` (a path) with the MAC that Docker knows, and change it."""
    deadline, reason = time.monotonic() + LIMIT_S, "Docker has not plugged it in"
    while plug.exists(veth):
        for path in (sandbox, OF_THE_HOST + re.sub("^/var/run/", "/run/", sandbox)):  # a link there would lead back here
            try:
                if plug.change_mac(veth, path, known, wanted):
                    return
            except WarrenError as error:  # the namespace comes with the container's process
                reason = str(error)
        if time.monotonic() > deadline:
            log.warning("mac.kept veth=%s mac=%s reason=%s", veth, known, reason)
            return
        time.sleep(PAUSE_S)
