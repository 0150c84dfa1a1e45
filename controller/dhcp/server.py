"""Answers endpoints' DHCP from the current specs, and counts. It keeps no state: the lease is derived from the index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from controller.dhcp import router
from controller.dhcp.answer import answer
from controller.dhcp.frames import tagged
from controller.dhcp.lease import lease_of
from controller.telemetry.metrics import ControllerMetrics
from intent.incremental.index import Index

log = logging.getLogger("warren.dhcp")


class Dhcp:
    """Answers packets and sends router advertisements. `send` takes an OpenFlow port and a frame; `labels` are those of the counters."""

    def __init__(
        self,
        index: Callable[[], Index],
        metrics: ControllerMetrics,
        labels: Callable[[], tuple[str, str]],
        send: Callable[[int, bytes], None],
    ) -> None:
        self._index, self._metrics, self._labels, self._send = index, metrics, labels, send

    def answer(self, endpoint_id: str, frame: bytes) -> None:
        """Answer a packet from the port of an endpoint."""
        index = self._index()
        view, lease = index.endpoints.get(endpoint_id), lease_of(index.snapshot, endpoint_id)
        if view is None or view.ofport is None or lease is None:  # the endpoint went while the packet waited
            return
        labels, outcome = self._labels(), answer(frame, lease)
        if outcome.question:
            self._metrics.dhcp_asked.labels(*labels, outcome.question).inc()
        if outcome.ignored:
            self._metrics.dhcp_ignored.labels(*labels, outcome.ignored).inc()
        if outcome.reply:
            self._metrics.dhcp_told.labels(*labels, outcome.reply).inc()
        if outcome.question == "decline":
            log.info("dhcp.declined endpoint=%s address=%s: somebody else there answers for it", endpoint_id, lease.ipv4)
        if outcome.frame is not None:
            self._send(view.ofport, tagged(outcome.frame, view.tag))

    def advertise(self) -> Iterator[None]:
        """Advertise the router to each endpoint of this host, one at a time."""
        index = self._index()
        for view in [view for view in index.endpoints.values() if view.dhcp and view.ipv6 is not None]:
            lease = lease_of(index.snapshot, view.id)
            if lease is not None and lease.ipv6 is not None and view.ofport is not None:
                self._send(view.ofport, tagged(router.advertisement(lease), view.tag))
                self._metrics.dhcp_told.labels(*self._labels(), router.ADVERTISEMENT).inc()
            yield
