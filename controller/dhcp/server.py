"""Answers endpoints' DHCP from the current specs, and counts. It keeps no state: the lease is derived from the index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from controller.dhcp import router
from controller.dhcp.answer import answer
from controller.dhcp.frames import tagged
from controller.dhcp.lease import lease_of
from controller.telemetry.metrics import Own
from intent.incremental.index import Index

log = logging.getLogger("warren.dhcp")


class Dhcp:
    """`send` takes an OpenFlow port and a frame; `labels` are those of the counters."""

    def __init__(
        self, index: Callable[[], Index], metrics: Own, labels: Callable[[], tuple[str, str]], send: Callable[[int, bytes], None]
    ) -> None:
        self._index, self._metrics, self._labels, self._send = index, metrics, labels, send

    def answer(self, endpoint_id: str, frame: bytes) -> None:
        """Answer a packet from the port of an endpoint."""
        index = self._index()
        view, lease = index.endpoints.get(endpoint_id), lease_of(index.snapshot, endpoint_id)
        if view is None or view.ofport is None or lease is None:  # the endpoint went while the packet waited
            return
        labels, found = self._labels(), answer(frame, lease)
        if found.asked:
            self._metrics.dhcp_asked.labels(*labels, found.asked).inc()
        if found.ignored:
            self._metrics.dhcp_ignored.labels(*labels, found.ignored).inc()
        if found.told:
            self._metrics.dhcp_told.labels(*labels, found.told).inc()
        if found.asked == "decline":
            log.info("dhcp.declined endpoint=%s address=%s: somebody else there answers for it", endpoint_id, lease.ipv4)
        if found.frame is not None:
            self._send(view.ofport, tagged(found.frame, view.tag))

    def advertise(self) -> Iterator[None]:
        """Advertise the router to each endpoint here, one at a time."""
        index = self._index()
        for view in [view for view in index.endpoints.values() if view.dhcp and view.ipv6 is not None]:
            lease = lease_of(index.snapshot, view.id)
            if lease is not None and lease.ipv6 is not None and view.ofport is not None:
                self._send(view.ofport, tagged(router.advertisement(lease), view.tag))
                self._metrics.dhcp_told.labels(*self._labels(), router.TOLD).inc()
            yield
