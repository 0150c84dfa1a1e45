"""Sets a container's MAC after Docker set another one.

Docker learns the MAC when the endpoint is created; a prefix that a label asks for is known only when the container joins.
Docker then moves the interface and sets the MAC it knows, so the agent sets the right one after that, usually before the
container's process runs.
"""

from __future__ import annotations

import logging
import time

from agent.linux.netns import of_processes
from agent.linux.veth import change_mac, exists
from warren.errors import WarrenError

log = logging.getLogger("warren.docker")

PAUSE_S, SEARCH_S, LIMIT_S = 0.002, 0.05, 15.0


def follow(sandbox: str, veth: str, docker_mac: str, new_mac: str) -> None:
    """Wait until the interface is up in the namespace `sandbox` (a path) with the MAC that Docker knows, and change it."""
    began = searched = time.monotonic()
    reason = "Docker has not plugged it in"
    while exists(veth):
        try:
            if change_mac(veth, sandbox, docker_mac, new_mac):
                return
        except WarrenError as error:  # not there yet, or never for an agent in a container, which does not see Docker's mounts
            reason = str(error)
            if time.monotonic() - searched > SEARCH_S:
                if any(_changed(veth, path, docker_mac, new_mac) for path in of_processes()):
                    return
                searched = time.monotonic()
        if time.monotonic() - began > LIMIT_S:
            log.warning("mac.kept veth=%s mac=%s reason=%s", veth, docker_mac, reason)
            return
        time.sleep(PAUSE_S)


def _changed(veth: str, path: str, docker_mac: str, new_mac: str) -> bool:
    try:
        return change_mac(veth, path, docker_mac, new_mac)
    except WarrenError:  # its last process has ended
        return False
