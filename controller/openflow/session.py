"""One switch session: sends read-back requests and bundles, and turns the switch's answers into events of the reconciler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from controller.events import AskReadBack, BundleRefused, Commit, Committed, DropMeters, Event, ReadBack
from controller.openflow import messages
from controller.openflow.flow_stats import FlowStats
from pipeline.flow import SwitchMeter

log = logging.getLogger("warren.datapath")


class SwitchSession:
    """The OpenFlow connection of one datapath. `post` takes the events; one consumer calls all methods."""

    def __init__(self, number: int, datapath: Any, post: Callable[[Event], None]) -> None:
        self.number, self.datapath, self.post = number, datapath, post
        self._cookies: set[int] = set()
        self._groups: set[int] | None = None
        self._meters: set[SwitchMeter] | None = None
        self._flows_read = False
        self._flow_xid = 0
        self._faults: list[int] = []
        self._fault_reason = ""
        self._commit: Commit | None = None
        self._sent_at = 0.0
        self.bundle_seconds: float | None = None
        datapath.send(messages.first_fragments_have_ports())

    # ---- effects ----------------------------------------------------------------------------------------------------

    def ask_read_back(self, effect: AskReadBack) -> None:
        """Request all flows and groups; the answers come in parts."""
        self._cookies, self._groups, self._meters, self._flows_read = set(), None, None, False
        self.datapath.send_msg(messages.meter_config_request(self.datapath))
        self.datapath.send_msg(messages.group_stats_request(self.datapath))
        request = messages.flow_stats_request(self.datapath)
        self.datapath.send_msg(request)
        self._flow_xid = request.xid  # type: ignore[attr-defined]

    def commit(self, effect: Commit) -> None:
        """Send one bundle."""
        self._commit, self._faults, self._sent_at = effect, [], time.monotonic()
        for meter in effect.meters:
            self.datapath.send(messages.meter_mod(meter))
        for meter in effect.meter_changes:
            self.datapath.send(messages.meter_mod(meter, change=True))
        adds = (flow.message for flow in effect.flows)
        for chunk in messages.bundle(effect.groups, adds, effect.deletes, effect.group_deletes):
            self.datapath.send(chunk)

    def drop_meters(self, effect: DropMeters) -> None:
        """Delete meters."""
        for meter_id in effect.meter_ids:
            self.datapath.send(messages.delete_meter(meter_id))

    def end(self) -> None:
        """Forget what the connection that has ended was doing."""
        self._commit, self._cookies = None, set()

    # ---- answers ----------------------------------------------------------------------------------------------------

    def flow_stats(self, xid: int, body: list[FlowStats], more: bool) -> None:
        """One part of flow statistics; the gauge asks for some, too."""
        if xid != self._flow_xid:
            return
        for part in body:
            self._cookies.update(part.cookies)
        if not more:
            self._flows_read = True
            self._read_back_complete()

    def group_stats(self, body: list[Any], more: bool) -> None:
        """One part of the group descriptions."""
        self._groups = (self._groups or set()) | {stat.group_id for stat in body}
        if not more:
            self._read_back_complete()

    def meter_stats(self, body: list[Any], more: bool) -> None:
        """One part of the meters' descriptions."""
        self._meters = (self._meters or set()) | {messages.meter_of(stats) for stats in body}
        if not more:
            self._read_back_complete()

    def _read_back_complete(self) -> None:
        if self._flows_read and self._groups is not None and self._meters is not None:
            self.post(ReadBack(self.number, frozenset(self._cookies), frozenset(self._groups), frozenset(self._meters)))
            self._flows_read = False

    def bundle_reply(self, kind: int) -> None:
        """A bundle was opened, committed or discarded."""
        if kind != messages.ofp.OFPBCT_COMMIT_REPLY or self._commit is None:
            return
        self.bundle_seconds = time.monotonic() - self._sent_at
        log.info(
            "bundle.committed adds=%d deletes=%d groups=%d ms=%.1f",
            len(self._commit.flows), len(self._commit.deletes), len(self._commit.groups), self.bundle_seconds * 1000,
        )  # fmt: skip
        self._commit = None
        self.post(Committed(self.number))

    def error(self, error_type: int, code: int, data: bytes) -> None:
        """The switch refused a message: of the bundle in flight, or the whole of it."""
        cookie = messages.cookie_of_error(data)
        reason = f"OpenFlow error type {error_type} code {code}"
        if error_type == messages.ofp.OFPET_METER_MOD_FAILED:  # the flows that use it are refused, and report that
            log.warning("meter.refused code=%d", code)
            return
        if cookie is not None:
            self._faults.append(cookie)
            self._fault_reason = reason
            return
        if self._commit is None:
            log.warning("datapath.error type=%d code=%d data=%s", error_type, code, data.hex())
            return
        self._commit = None
        if self._faults:
            self.datapath.send(messages.discard_bundle())
            log.warning("bundle.refused flows=%d reason=%s", len(self._faults), self._fault_reason)
            self.post(BundleRefused(self.number, tuple(self._faults), self._fault_reason))
        else:  # no flow is at fault: start over with a new connection and a full read-back
            log.warning("bundle.failed type=%d code=%d; reconnecting", error_type, code)
            self.datapath.close()
