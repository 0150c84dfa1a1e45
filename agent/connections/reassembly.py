"""Keeps Open vSwitch's userspace datapath from holding fragments in `ct` (ovs-dpctl(8), ipf-set-disabled).

Open vSwitch 3.1 puts held fragments into whatever batch of packets comes next, also one of another network, and may use one that it has freed
(docs/adr/0103-fragments-without-reassembly.md). The setting lasts as long as ovs-vswitchd runs, so this module reads it each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.feature import Feature
from ovsdb.control import has_datapath, held_versions
from warren.worker import Worker

INTERVAL_S = 2.0  # the longest time for which fragments are held after ovs-vswitchd has started


class Reassembly(Feature):
    """Reconciles one datapath. `datapath` returns its name; `appctl` runs a command of ovs-vswitchd and returns its output."""

    def __init__(self, datapath: Callable[[], str], appctl: Callable[..., str]) -> None:
        self._datapath, self._appctl = datapath, appctl
        self._worker = Worker("reassembly", self._step, interval_s=INTERVAL_S)

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def differences(self) -> list[str]:
        """Return the IP versions whose fragments Open vSwitch holds."""
        return [f"reassembly: Open vSwitch holds IP{version} fragments (ipf-set-disabled {version})" for version in self._held()]

    def reconcile(self) -> None:
        """Turn off what is on. Raises `Unavailable` when Open vSwitch refuses."""
        for version in self._held():
            self._appctl("dpctl/ipf-set-disabled", self._datapath(), version)

    def _held(self) -> tuple[str, ...]:
        name = self._datapath()
        if not name.startswith("netdev@"):
            return ()  # the kernel reassembles by code of its own
        return held_versions(self._appctl("dpctl/ipf-get-status", name))

    def _step(self, items: frozenset[str]) -> None:
        if has_datapath(self._appctl):
            self.reconcile()
