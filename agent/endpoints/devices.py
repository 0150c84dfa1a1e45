"""Takes interfaces of other programs for endpoints, and gives them back as they were.

A file for each interface below WARREN_RUN holds its earlier values; the mark of an interface in use is its row in OVSDB.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from agent.linux import devices
from agent.linux.devices import Device, Earlier
from agent.linux.interface import Desired

log = logging.getLogger("warren.devices")


class Devices:
    """The interfaces that other programs have made on one host. Thread-safe: an interface cannot be taken and given back at the same time."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._lock = directory, threading.RLock()

    def take(self, desired: Desired) -> None:
        """Give an interface the state that its endpoint needs. Raises `Unavailable`, `Conflict`."""
        with self._lock:
            self.note(devices.usable(desired))
            devices.take(desired)

    def note(self, device: Device) -> None:
        """Keep the values of an interface, unless earlier ones are kept already."""
        path, now = self._directory / device.link.name, devices.earlier(device)
        with self._lock:
            earlier = _read(path)
            if earlier is None or earlier.index != now.index:
                self._directory.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(asdict(now)))

    def give_back(self, name: str) -> None:
        """Restore the earlier values of an interface. Raises `Unavailable`."""
        path = self._directory / name
        with self._lock:
            if (earlier := _read(path)) is not None:
                devices.give_back(name, earlier)
                log.info("device.given_back name=%s", name)
            path.unlink(missing_ok=True)

    def noted(self) -> set[str]:
        """Return the names of the interfaces whose earlier values are kept."""
        return {path.name for path in self._directory.glob("*")} if self._directory.is_dir() else set()

    def differences(self, desired: Desired) -> Sequence[str]:
        """Return how an interface differs from what its endpoint needs. Raises `Unavailable`, `Conflict`."""
        return devices.differences(desired)


def _read(path: Path) -> Earlier | None:
    try:
        return Earlier(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
