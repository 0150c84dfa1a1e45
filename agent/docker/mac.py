"""Sets a container's MAC after Docker set another one.

Docker learns the MAC when the endpoint is created; a prefix that a label asks for is known only when the container joins.
Docker then moves the interface, sets the MAC it knows and announces it (engines since 28.1 start no container whose MAC has changed
then). After that it calls the driver again, so the agent sets the right MAC at that call, before the container's process runs.
"""

from __future__ import annotations

import logging
import threading
import time

from agent.linux.netns import of_processes
from agent.linux.veth import change_mac, exists
from warren.errors import WarrenError

log = logging.getLogger("warren.docker")

PAUSE_S, SEARCH_S, LIMIT_S = 0.002, 0.05, 15.0
CALL_S = 2.0  # the longest wait for the engine's next call


class MacChanges:
    """The MACs that are about to be changed, by Docker's id of the endpoint. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, threading.Event] = {}

    def begin(self, docker_id: str, sandbox: str, veth: str, docker_mac: str, new_mac: str) -> None:
        """Change a MAC once the engine has announced the one that it knows."""
        called = self._waiting[docker_id] = threading.Event()

        def work() -> None:
            called.wait(CALL_S)
            self._waiting.pop(docker_id, None)
            follow(sandbox, veth, docker_mac, new_mac)

        threading.Thread(target=work, name="mac", daemon=True).start()

    def called(self, docker_id: str) -> None:
        """The engine has called the driver about an endpoint again."""
        if (event := self._waiting.get(docker_id)) is not None:
            event.set()


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
