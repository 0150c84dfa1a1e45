"""`python -m benchmarks.scrape`: how long a scrape takes with 10 000 endpoints on one host, and with 10. No switch, no root."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, generate_latest

from controller.telemetry.metrics import Gauge
from controller.telemetry.switch_stats import Numbers, Place, Polled, PortState


def scrape_s(endpoints: int) -> float:
    """Seconds, the best of three."""
    polled = Polled(
        dpid=0xABC,
        name="h1",
        ports={n: Numbers(*range(n, n + 8)) for n in range(1, endpoints + 1)},
        states={n: PortState(f"wv{n:010x}", 4, 10_000_000, 0) for n in range(1, endpoints + 1)},
    )
    registry = CollectorRegistry()
    registry.register(Gauge(polled, lambda: {n: Place("amber", f"web-{n}") for n in range(1, endpoints + 1)}))  # type: ignore[arg-type]
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        generate_latest(registry)
        took.append(time.perf_counter() - begun)
    return min(took)


if __name__ == "__main__":
    for count in (10, 1_000, 10_000):
        print(f"{count:>6} endpoints: {scrape_s(count) * 1000:.1f} ms")
