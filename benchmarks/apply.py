"""How long a document of many endpoints takes, from POST /apply until the answer: created, applied again, and pruned."""

from __future__ import annotations

import time

from benchmarks.attach import AgentConnection
from benchmarks.laboratory import Laboratory

NOTHING = "{networks: [{name: bench}], endpoints: []}"


def applied(laboratory: Laboratory, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round. The endpoints have no containers: what is measured is the way into the store."""
    agent = AgentConnection(str(laboratory.plan.hosts[0].socket))
    lines = [f"- {{name: e{i}, network: bench, host: h{i % 2 + 1}, labels: {{role: web}}}}" for i in range(count)]
    document = "endpoints:\n" + "\n".join(lines)
    seconds: dict[str, list[float]] = {"created": [], "again": [], "pruned": []}
    for _ in range(rounds):
        for what, text, prune, changes in (
            ("created", document, False, count),
            ("again", document, False, 0),
            ("pruned", NOTHING, True, count),
        ):
            began = time.monotonic()
            made = len(agent.post("/apply", {"document": text, "prune": prune})["changes"])
            seconds[what].append(time.monotonic() - began)
            assert made == changes, f"{what}: {made} changes"
            laboratory.settle()
    return seconds
