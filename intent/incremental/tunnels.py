"""The ports of this host to other hosts, one for each tunnel profile, updated change by change; part of intent/incremental/index.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from intent.sites import tunnel_ofports, tunnel_udp_ports
from specs.snapshot import Snapshot


@dataclass(slots=True)
class TunnelPorts:
    """The OpenFlow ports to other hosts by the number of their profile, and the UDP ports of profiles."""

    snapshot: Snapshot
    ofports: Mapping[int, int] = field(default_factory=dict)
    udp_ports: frozenset[int] = frozenset()
    _default: int | None = None
    _interfaces: Mapping[str, int] = field(default_factory=dict)
    _flushed: tuple[Mapping[int, int], frozenset[int]] = ({}, frozenset())

    def set_default(self, ofport: int | None) -> None:
        """Take the OpenFlow port of the profile `default` (None: there is none)."""
        self._default = ofport
        self.update()

    def set_interfaces(self, ofports: Mapping[str, int]) -> None:
        """Take the OpenFlow ports of interfaces, by name."""
        self._interfaces = ofports
        self.update()

    def update(self) -> None:
        """Derive both again, after a change of profiles."""
        self.ofports = tunnel_ofports(self._default, self.snapshot.profiles, self._interfaces)
        self.udp_ports = tunnel_udp_ports(self.snapshot.profiles)

    def flush(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the profiles whose OpenFlow port differs since the last flush, and the UDP ports that came or went."""
        (before, ports), self._flushed = self._flushed, (self.ofports, self.udp_ports)
        moved = (number for number in {*before, *self.ofports} if before.get(number) != self.ofports.get(number))
        return frozenset(moved), ports ^ self.udp_ports
