"""The other hosts, updated change by change; part of intent/incremental/index.py: their VTEPs, and the networks that they have
endpoints of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from intent.host_paths import HostPath
from intent.sites import addresses, marked_host, vtep
from intent.views import Vteps
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.profile import all_profiles, profile_in, profile_of
from specs.ports import has_unknown_macs
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Hosts:
    """What is known of the hosts other than `host`."""

    host: str
    snapshot: Snapshot
    encrypted: frozenset[str] = frozenset()  # hosts of other sites to which the tunnel's encryption is up
    peers: set[str] = field(default_factory=set)  # their VTEPs
    _members: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))  # network -> host -> endpoints
    _behind: dict[str, dict[str, Endpoint]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # network -> those behind interfaces
    _changed: bool = False

    def change(self) -> None:
        """Take note that a host's record has changed."""
        self._changed = True

    def set_encrypted(self, hosts: frozenset[str]) -> frozenset[str]:
        """Take the marks of encrypted tunnels that are up (`encrypted_mark`). Returns the hosts for which that has changed."""
        before, self.encrypted = self.encrypted, hosts
        return frozenset(marked_host(mark) for mark in before ^ hosts)

    def recompute(self) -> dict[str, str | None]:
        """Recompute the VTEPs after a change of records, which is rare. Returns those that have come (as themselves) or gone (None)."""
        if not self._changed:
            return {}
        profiles, local = all_profiles(self.snapshot.profiles), self.snapshot.hosts.get(self.host)
        others = [host for host in self.snapshot.hosts.values() if host.name != self.host]
        before, self.peers = self.peers, {a for host in others for a in addresses(host, local, self.encrypted, profiles)}
        self._changed = False
        return {address: address if address in self.peers else None for address in before ^ self.peers}

    def vtep(self, name: str, network: Network | None = None) -> str | None:
        """The address by which this host reaches another in a network (None: in the profile `default`); None while it does not."""
        profiles = self.snapshot.profiles
        profile = profile_in(network, profiles) if network is not None else profile_of(None, profiles)
        return vtep(self.snapshot.hosts[name], self.snapshot.hosts.get(self.host), self.encrypted, profile)

    def vteps(self, network: Network, routed_to: Iterable[str]) -> Vteps:
        """The hosts that send into a network; `routed_to` are the networks that it is routed to."""
        behind, hosts = self._behind.get(network.id, {}).values(), self.snapshot.hosts
        members = self._members.get(network.id, ())

        def vteps(names: Iterable[str]) -> set[str]:
            return {address for name in names if (address := self.vtep(name, network)) is not None}

        return Vteps(
            members=vteps(members),
            interfaces=vteps(e.host for e in behind),
            behind=vteps(e.host for e in behind if has_unknown_macs(e)),
            routing=vteps(name for other in routed_to for name in self._members.get(other, ())),
            paths={HostPath(str(hosts[name].vtep), path) for name in members if (path := self.vtep(name, network)) is not None},
            local=hosts.get(self.host),
        )

    def add(self, endpoint: Endpoint) -> bool:
        """Count an endpoint. Returns whether it is the first of its network on another host."""
        if endpoint.host == self.host:
            return False
        if endpoint.port is not None:
            self._behind[endpoint.network_id][endpoint.id] = endpoint
        hosts = self._members[endpoint.network_id]
        hosts[endpoint.host] = hosts.get(endpoint.host, 0) + 1
        return hosts[endpoint.host] == 1

    def remove(self, endpoint_id: str, network_id: str, name: str) -> bool:
        """No longer count an endpoint of host `name`. Returns whether it was the last of its network there."""
        if name == self.host:
            return False
        self._behind[network_id].pop(endpoint_id, None)
        hosts = self._members[network_id]
        hosts[name] -= 1
        if not hosts[name]:
            del hosts[name]
        return name not in hosts
