"""Decides which settings of the firewall are in force on this host: the confirmed ones, or for a while those on trial. Pure but for its memory."""

from __future__ import annotations

from collections.abc import Callable

from specs.model.firewall import Firewall, FirewallSettings


class Trial:
    """Decides by this process's own clock, so that settings are reverted even if they cut off the administrator and etcd. A proposal that exists when
    the process starts is not tried: an earlier process may have tried it already. `clock` returns seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = False
        self._proposal: tuple[str, float] | None = None  # the id of the newest proposal, and when its trial ends

    def settings(self, firewall: Firewall) -> FirewallSettings:
        """Return the settings that are to be in force now."""
        proposal, now = firewall.proposal, self._clock()
        if proposal is not None and (self._proposal is None or self._proposal[0] != proposal.id):
            self._proposal = proposal.id, now + (proposal.confirm_within_s if self._started else 0)
        self._started = True
        if proposal is None or self.left_s(firewall) <= 0:
            return firewall.settings
        return firewall.proposed or firewall.settings

    def left_s(self, firewall: Firewall) -> float:
        """Return for how many seconds the proposal may still be tried; 0: its trial has ended."""
        if firewall.proposal is None or self._proposal is None or self._proposal[0] != firewall.proposal.id:
            return 0.0
        return max(0.0, self._proposal[1] - self._clock())
