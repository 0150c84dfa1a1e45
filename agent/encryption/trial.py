"""Which settings of the firewall are in force on this host: those that are confirmed, or for a while those that somebody tries. Pure but for its memory."""

from __future__ import annotations

from collections.abc import Callable

from specs.model.firewall import Firewall, FirewallSettings


class Trial:
    """Decides by this process's own clock, so settings that keep the administrator and etcd out are taken back all the same. What a process finds when
    it starts is not tried: nobody knows how long another one has tried it. `clock` returns seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = False
        self._proposal: tuple[str, float] | None = None  # the id of the newest one, and when its time is up

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
        """Return for how many seconds the proposal may still be tried; 0: not any more."""
        if firewall.proposal is None or self._proposal is None or self._proposal[0] != firewall.proposal.id:
            return 0.0
        return max(0.0, self._proposal[1] - self._clock())
