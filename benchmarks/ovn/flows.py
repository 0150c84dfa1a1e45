"""When a switch's flows change, as Open vSwitch itself reports it (a flow monitor), whoever the controller is."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path

from tools.lab.run import LabError

QUIET_S = 0.15  # without an event, after which a change counts as complete
EVENT = re.compile(r" event=(ADDED|MODIFIED|DELETED) ")


class FlowMonitor:
    """The times of a bridge's flow events."""

    def __init__(self, directory: Path, bridge: str) -> None:
        self.times: list[float] = []
        command = ["ovs-ofctl", "-O", "OpenFlow14", "monitor", bridge, "watch:!initial"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OVS_RUNDIR": str(directory)},
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if EVENT.search(line):
                self.times.append(time.monotonic())

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def complete(self, began: float, timeout_s: float = 30) -> float:
        """Milliseconds from `began` until the last event of the change that has begun then."""
        deadline = time.monotonic() + timeout_s
        while (last := complete(self.times, began, time.monotonic())) is None:
            if time.monotonic() > deadline:
                raise LabError(f"no flow has changed within {timeout_s:g} s")
            time.sleep(0.02)
        return (last - began) * 1000


def complete(times: list[float], began: float, now: float) -> float | None:
    """The time of the last event since `began`; None while there is none, or while the newest is too fresh to be called the last."""
    last = max((moment for moment in times if moment >= began), default=None)
    return last if last is not None and now - last >= QUIET_S else None
