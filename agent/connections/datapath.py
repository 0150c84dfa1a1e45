"""The connections that the datapath of this host tracks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from agent.connections import dump
from intent.connections import Connection
from pipeline.protocols import IpAddress

# One flush that matches many connections leaves some: Open vSwitch 3.1 removes them from the table that it walks over. Of 10 000, four in ten are left.
TRIES = 20


class Datapath:
    """Reads and ends connections. `name` returns the datapath's name; `appctl` runs a command of ovs-vswitchd, and `ofctl` one
    of ovs-ofctl on the bridge. Methods raise `Unavailable`."""

    def __init__(self, name: Callable[[], str], appctl: Callable[..., str], ofctl: Callable[..., object]) -> None:
        self._name, self._appctl, self._ofctl = name, appctl, ofctl

    def read(self, zones: Collection[int]) -> list[Connection]:
        """Return the connections of these zones, from one dump."""
        only = [f"zone={zone}" for zone in zones] if len(zones) == 1 else []
        return [c for c in dump.parse(self._appctl("dpctl/dump-conntrack", self._name(), *only)) if c.zone in zones]

    def end(self, ending: Collection[Connection], staying: Iterable[Connection]) -> None:
        """End some connections of one `read`; `staying` are its others. Some may be left: read again."""
        flush = self._flush()
        for arguments in dump.batches(ending, staying):
            flush(*arguments)
        if bundle := dump.endings_of_icmpv6(ending):
            self._ofctl("bundle", "-", text=bundle)

    def end_of(self, zone: int, address: IpAddress) -> None:
        """End all connections of an address: those that it began, and those that it answers."""
        for _ in range(TRIES):
            if f"(src={address}," not in self._appctl("dpctl/dump-conntrack", self._name(), f"zone={zone}"):
                break
            if address.version == 4:
                flush = self._flush()
                flush(f"zone={zone}", dump.sender(address))
                flush(f"zone={zone}", "", dump.sender(address))
            else:  # some of them may be ICMPv6's
                connections = self.read((zone,))
                ending = [c for c in connections if address in (c.source, c.replier)]
                self.end(ending, (c for c in connections if address not in (c.source, c.replier)))

    def _flush(self) -> Callable[..., object]:
        """Return what ends connections. Open vSwitch 3.1 takes no tuple after a datapath's name, so where there are several
        datapaths the bridge says which, at the price of a process for each call."""
        if len(self._appctl("dpctl/dump-dps").split()) == 1:
            return partial(self._appctl, "dpctl/flush-conntrack")
        return partial(self._ofctl, "ct-flush")
