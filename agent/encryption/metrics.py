"""Prometheus metrics of the encrypted tunnels, the guard and the allow list of a host. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.encryption.health import PairState

H = ("dp_name",)
PAIR = (*H, "peer", "cipher")


class OutsideMetrics:
    """Collects the metrics. `pairs` returns the tunnels, `guard` the packets that the guard has dropped, by direction, `refused` those that the allow
    list has refused."""

    def __init__(
        self,
        host: str,
        pairs: Callable[[], Iterable[PairState]],
        guard: Callable[[], Mapping[str, int]],
        refused: Callable[[], int],
    ) -> None:
        self._host, self._pairs, self._guard, self._refused = host, pairs, guard, refused

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as prometheus_client calls it."""
        pairs = {(self._host, pair.peer, pair.cipher): pair for pair in self._pairs()}
        up = GaugeMetricFamily("warren_encrypted_tunnel_up", "Whether the encrypted tunnel to a host works: 0 or 1", labels=PAIR)
        text = "How long ago the keys of the tunnel were agreed upon, seconds; no series: never"
        age = GaugeMetricFamily("warren_encrypted_tunnel_handshake_age_seconds", text, labels=PAIR)
        received = CounterMetricFamily("warren_encrypted_tunnel_received_bytes", "bytes received through the tunnel", labels=PAIR)
        sent = CounterMetricFamily("warren_encrypted_tunnel_sent_bytes", "bytes sent through the tunnel", labels=PAIR)
        for labels, pair in sorted(pairs.items()):
            up.add_metric(labels, pair.up)
            received.add_metric(labels, pair.received)
            sent.add_metric(labels, pair.sent)
            if pair.handshake_age_s is not None:
                age.add_metric(labels, pair.handshake_age_s)
        text = "packets of tunnels in clear text that the guard has dropped at the outside interface"
        guarded = CounterMetricFamily("warren_guard_dropped_packets", text, labels=(*H, "direction"))
        for direction, count in sorted(self._guard().items()):
            guarded.add_metric((self._host, direction), count)
        text = "packets from outside that the allow list has refused"
        refused = CounterMetricFamily("warren_allowlist_refused_packets", text, labels=H)
        refused.add_metric((self._host,), self._refused())
        yield from (up, age, received, sent, guarded, refused)

    def text(self) -> str:
        """The metrics as Prometheus reads them."""
        registry = CollectorRegistry()
        registry.register(self)  # type: ignore[arg-type]
        return generate_latest(registry).decode()
