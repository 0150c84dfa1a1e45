"""How long `docker run` takes on a Warren network, beside the engine's own bridge network and no network at all."""

from __future__ import annotations

import time

from benchmarks.laboratory import Laboratory
from tools.lab.engine import IMAGE, LabEngine, engines

KINDS = ("none", "bridge", "warren", "warren, preallocated")
READY = 2


def starts(laboratory: Laboratory, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every `docker run -d` and of every `docker rm -f` ("rm none" and so on), one kind after the other in each
    round, so that what else the machine does meets all of them."""
    durations: dict[str, list[float]] = {kind: [] for kind in KINDS} | {f"rm {kind}": [] for kind in KINDS}
    with engines(laboratory.plan, ("h1",)) as (engine,):
        engine.docker("network", "create", "-d", "bridge", "--subnet", "10.34.0.0/24", "bridged")
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=bench",
                      "-o", "warren.network=bench", "warren")  # fmt: skip
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.35.0.0/24",
                      "-o", f"warren.preallocate={READY}", "-o", "warren.name=ready", "ready")  # fmt: skip
        networks = {"none": "none", "bridge": "bridged", "warren": "warren", "warren, preallocated": "ready"}
        for kind in KINDS:  # a network has its first container: the host of the first one learns the whole network
            engine.docker("run", "-d", "--name", f"first-{networks[kind]}", "--network", networks[kind], IMAGE, "sleep", "3600")
        for number in range(-1, rounds):
            for kind in KINDS:
                laboratory.until_ready(READY)
                took = _start(engine, networks[kind])
                if number >= 0:  # the first of each kind finds nothing ready
                    durations[kind].append(took[0])
                    durations[f"rm {kind}"].append(took[1])
        engine.clean()
        engine.docker("network", "rm", "bridged")
    return durations


def _start(engine: LabEngine, network: str) -> tuple[float, float]:
    began = time.monotonic()
    engine.docker("run", "-d", "--name", "one", "--network", network, IMAGE, "sleep", "3600")
    started = time.monotonic()
    engine.docker("rm", "-f", "one")
    return (started - began) * 1000, (time.monotonic() - started) * 1000
