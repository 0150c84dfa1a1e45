"""What records name and the specs do not have, or have in a way that makes it useless. Pure.

Such a record is valid: what it names may come later. So it is not refused; whoever writes it is told, and `warren status` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from acl.language import Who
from specs.checks import called
from specs.model.acl import Acl
from specs.model.adoption import Adoption
from specs.model.base import Record
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.mirror import Mirror
from specs.model.network import Network
from specs.model.service import Service
from specs.model.tenant import Tenant
from specs.obstacles import addressed, cut_off, lacks
from specs.snapshot import Problem, Snapshot

KINDS = ("network", "endpoint", "host", "acl", "tenant", "mirror", "service", "adoption")


class References:
    """Checks the references of records in one state of the specs. `followed` are the networks whose endpoints it has (None: all); of
    endpoints of others nothing is said."""

    def __init__(self, state: Snapshot, followed: frozenset[str] | None = None) -> None:
        self._state, self._followed = state, followed

    def problems(self) -> list[Problem]:
        """Those of all records; published ports that lead nowhere once for each network."""
        others = ((kind, name) for kind in KINDS if kind != "endpoint" for name in sorted(getattr(self._state, f"{kind}s")))
        problems = [problem for kind, name in others for problem in self.of(kind, name)]
        endpoints = (e for e in self._state.endpoints.values() if (e.acls or e.port or e.publish) and not e.spare)
        return problems + [
            Problem(self._about("endpoint", e), reason) for e in endpoints for reason in (*self._acls(e), *self._of_host(e))
        ]

    def of(self, kind: str, name: str) -> list[Problem]:
        """Those of one record, by its id (or its name, if the kind has no ids). None for a record that does not exist."""
        record: Record | None = getattr(self._state, f"{kind}s").get(name)
        if record is None or getattr(record, "spare", False):
            return []
        reasons = [*self._acls(record), *self._others(record)]
        return [Problem(self._about(kind, record), reason) for reason in reasons]

    def _about(self, kind: str, record: Record) -> str:
        name = str(getattr(record, "name", None) or getattr(record, "id", ""))
        if not isinstance(record, Endpoint):
            return f"{kind}/{name}"
        network = self._networks.get(record.network_id)
        return f"{kind}/{network.name if network is not None else record.network_id}/{name}"

    def _acls(self, record: Record) -> Iterator[str]:
        fields = {
            Network: ("default_acl", "vlan_out_acl", "nat_acl"),
            Endpoint: ("acls",),
            Host: ("acls",),
            Tenant: ("acls",),
        }.get(type(record), ())
        for field in fields:
            for reference in getattr(record, field) or ():
                network, _, acl = reference.rpartition(":")
                if acl not in self._state.acls:
                    yield f"{field} names ACL {acl}, which does not exist: what it decides about is dropped"
                elif network and network not in self._networks:
                    yield f"{field} names network {network}, which does not exist"

    def _others(self, record: Record) -> Iterable[str]:
        if isinstance(record, Mirror):
            return self._of_mirror(record)
        if isinstance(record, Acl):
            return self._of_acl(record)
        if isinstance(record, Service):
            return self._members(record)
        if isinstance(record, Adoption):
            return [*self._endpoint("network", record.network, None), *self._host("host", record.host)]
        if isinstance(record, Endpoint):
            return [*self._published(record), *self._of_host(record)]
        return self._published(record)

    def _of_host(self, endpoint: Endpoint) -> Iterator[str]:
        """What an endpoint takes of its host, or needs there."""
        hostnet = self._state.hostnets.get(endpoint.host)
        for address in sorted({entry.host_ip for entry in endpoint.publish if entry.host_ip is not None}, key=str):
            if lacks(address, hostnet):
                yield f"publish: no interface of host {endpoint.host} has host_ip {address} in its range: the ports lead nowhere until one has"
        if endpoint.port is not None and (prefix := addressed(endpoint.port, hostnet)) is not None:
            yield f"port: {cut_off(prefix, endpoint.host)}"

    def _of_mirror(self, mirror: Mirror) -> Iterator[str]:
        for i, source in enumerate(mirror.sources):
            yield from self._endpoint(f"sources[{i}]", source.network, source.endpoint)
        if mirror.to.network is not None:
            yield from self._endpoint("to", mirror.to.network, mirror.to.endpoint)
        yield from self._host("to", mirror.to.host)

    def _host(self, path: str, name: str | None) -> Iterator[str]:
        if name is not None and name not in self._state.hosts:
            yield f"{path} names host {name}, which does not exist"

    def _of_acl(self, acl: Acl) -> Iterator[str]:
        for i, rule in enumerate(acl.parsed):
            if rule.meter is not None and rule.meter not in self._state.meters:
                yield f"rules[{i}] names meter {rule.meter}, which does not exist: what the ACL decides about is dropped"
            for field, who in (("from", rule.source), ("to", rule.target)):
                yield from self._selected(f"rules[{i}].{field}", who)

    def _selected(self, path: str, who: Who | None) -> Iterator[str]:
        if who is not None and who.network is not None and who.network not in self._networks:
            yield f"{path} names network {who.network}, which does not exist"
        if self._followed is not None:
            return
        if who is not None and who.endpoint is not None and not any(who.endpoint in names for names in self._names.values()):
            yield f"{path} names endpoint {who.endpoint}, which does not exist"

    def _members(self, service: Service) -> Iterator[str]:
        for i, name in enumerate(service.endpoints):
            yield from self._endpoint(f"endpoints[{i}]", service.network, name)

    def _endpoint(self, path: str, reference: str, endpoint: str | None) -> Iterator[str]:
        network = self._networks.get(reference)
        if network is None:
            yield f"{path} names network {reference}, which does not exist"
        elif self._followed is not None and network.id not in self._followed:
            return
        elif endpoint is not None and endpoint not in self._names.get(network.id, ()):
            yield f"{path} names endpoint {endpoint}, which network {network.name} does not have"

    def _published(self, record: Record) -> Iterator[str]:
        """Published ports lead nowhere on a flat network, which has no gateway."""
        if isinstance(record, Network) and record.mode == "flat":
            names = sorted(e.name or e.id for e in self._publishers if e.network_id == record.id)
            if names:
                yield f"mode flat has no gateway: the ports that {', '.join(names)} publish{'es' if len(names) == 1 else ''} lead nowhere"
        elif isinstance(record, Endpoint) and record.publish:
            network = self._networks.get(record.network_id)
            if network is not None and network.mode == "flat":
                yield f"publish: network {network.name} is in mode flat and has no gateway: the ports lead nowhere"

    @cached_property
    def _networks(self) -> dict[str, Network]:
        return called(self._state.networks)

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """The names and ids of the endpoints of each network."""
        names: dict[str, set[str]] = {}
        for endpoint in self._state.endpoints.values():
            names.setdefault(endpoint.network_id, set()).update(name for name in (endpoint.id, endpoint.name) if name)
        return names

    @cached_property
    def _publishers(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._state.endpoints.values() if endpoint.publish]
