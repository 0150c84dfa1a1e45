"""How long `docker run` takes on a Warren network, beside the engine's own bridge network and no network at all."""

from __future__ import annotations

import time

from benchmarks.laboratory import Laboratory
from tools.lab.engine import IMAGE, NEWER, PROGRAMS, LabEngine, engines, newer_available

NETWORKS = {"none": "none", "bridge": "bridged", "warren": "warren", "warren, preallocated": "ready", "bridge, -p": "bridged",
            "warren, -p": "nat"}  # fmt: skip
KINDS = tuple(NETWORKS)
READY = 2


def starts(laboratory: Laboratory, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every `docker run -d` and of every `docker rm -f` ("rm none" and so on), one kind after the other in each
    round, so that what else the machine does meets all of them."""
    durations: dict[str, list[float]] = {kind: [] for kind in KINDS} | {f"rm {kind}": [] for kind in KINDS}
    with engines(laboratory.plan, ("h1",), programs=NEWER if newer_available() else PROGRAMS) as (engine,):
        engine.docker("network", "create", "-d", "bridge", "--subnet", "10.34.0.0/24", "bridged")
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=bench",
                      "-o", "warren.network=bench", "warren")  # fmt: skip
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.35.0.0/24",
                      "-o", f"warren.preallocate={READY}", "-o", "warren.name=ready", "ready")  # fmt: skip
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.36.0.0/24",
                      "-o", "warren.mode=nat", "nat")  # fmt: skip
        for network in dict.fromkeys(
            NETWORKS.values()
        ):  # has its first container: the host of the first one learns the whole network
            engine.docker("run", "-d", "--name", f"first-{network}", "--network", network, IMAGE, "sleep", "3600")
        for number in range(-1, rounds):
            for kind in KINDS:
                laboratory.until_ready(READY)
                took = _start(engine, NETWORKS[kind], ("-p", "18099:80") if kind.endswith("-p") else ())
                if number >= 0:  # the first of each kind finds nothing ready
                    durations[kind].append(took[0])
                    durations[f"rm {kind}"].append(took[1])
        engine.clean()
        engine.docker("network", "rm", "bridged")
    return durations


def _start(engine: LabEngine, network: str, options: tuple[str, ...]) -> tuple[float, float]:
    began = time.monotonic()
    engine.docker("run", "-d", "--name", "one", *options, "--network", network, IMAGE, "sleep", "3600")
    started = time.monotonic()
    engine.docker("rm", "-f", "one")
    return (started - began) * 1000, (time.monotonic() - started) * 1000
