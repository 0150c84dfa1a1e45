"""Which names an endpoint can resolve, and to what. Pure.

An endpoint sees its own network's endpoints as NAME, NAME.NETWORK and, if the network has a domain, NAME.DOMAIN; endpoints of networks that a
router joins to its own as NAME.NETWORK and NAME.DOMAIN. Those of a tenant's network TENANT/NETWORK are NAME.NETWORK.TENANT, and NAME.NETWORK for the
tenant's own endpoints. An alias is one more name, and several endpoints may have the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from pipeline.protocols import IpAddress
from specs import keys
from specs.checks import called, joined, routers_in_order, valid_networks, zones
from specs.model.endpoint import Endpoint
from specs.model.names import full, short, tenant_in
from specs.model.network import Network
from specs.snapshot import Snapshot, put

KINDS = (keys.NETWORKS, keys.ENDPOINTS, keys.ROUTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses of a name; a name may exist without any."""

    ipv4: tuple[IPv4Address, ...] = ()
    ipv6: tuple[IPv6Address, ...] = ()


@dataclass(slots=True)
class _Members:
    """The endpoints of a network, by lower-case name and by address."""

    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    addresses: dict[IpAddress, set[str]] = field(default_factory=lambda: defaultdict(set))


class NameIndex:
    """The names of all networks that concern a host, kept current by `put`. What a change costs does not grow with the number of endpoints."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._members: dict[str, _Members] = defaultdict(_Members)
        self._indexed: dict[str, Endpoint] = {}
        self._networks: dict[int, Network] | None = None  # by conntrack zone; None: to be computed
        self._joined: dict[str, list[Network]] = {}

    def put(self, key: str, value: str | None, born: int) -> None:
        """Take one entry of the store (value None: deleted)."""
        decoded = put(self._snapshot, key, value, born) if key.startswith(KINDS) else None
        if decoded is None:
            return
        if decoded.kind == "endpoint":
            self._index(decoded.id)
        else:
            self._networks = None

    def _index(self, endpoint_id: str) -> None:
        if (old := self._indexed.pop(endpoint_id, None)) is not None:
            members = self._members[old.network_id]
            for kept, terms in ((members.names, _names(old)), (members.addresses, _addresses(old))):
                for term in terms:
                    kept[term].discard(endpoint_id)  # type: ignore[index]
                    if not kept[term]:  # type: ignore[index]
                        del kept[term]  # type: ignore[arg-type]
        new = self._snapshot.endpoints.get(endpoint_id)
        if new is not None and new.active:
            self._indexed[endpoint_id] = new
            members = self._members[new.network_id]
            for name in _names(new):
                members.names[name].add(endpoint_id)
            for address in _addresses(new):
                members.addresses[address].add(endpoint_id)

    def forget(self, prefixes: Collection[str]) -> None:
        """Forget the endpoints whose keys begin with these prefixes."""
        for endpoint in list(self._snapshot.endpoints.values()):
            key = keys.endpoint(endpoint.network_id, endpoint.id)
            if key.startswith(tuple(prefixes)):
                self.put(key, None, 0)

    def network(self, zone: int) -> Network | None:
        """The network with a name server that has a conntrack zone."""
        if self._networks is None:
            valid = valid_networks(self._snapshot)[0]
            routed_to = joined(routers_in_order(self._snapshot), called(valid))[0]
            self._joined = {
                i: sorted((valid[other] for other in others), key=lambda n, tenant=valid[i].tenant: n.tenant != tenant)  # type: ignore[misc]
                for i, others in routed_to.items()
            }
            zone_of = zones(self._snapshot, valid)
            self._networks = {zone_of[network.id]: network for network in valid.values() if network.dns_server}
        return self._networks.get(zone)

    def addresses(self, network: Network, name: str) -> Addresses | None:
        """The addresses of a name (lower case, without the last dot) as endpoints of a network see it: None if the name is one of these
        networks' and nobody has it. Raises `LookupError` for all other names."""
        if name in self._members[network.id].names:
            return self._of(self._members[network.id].names[name])
        ours = False
        for other in (network, *self._joined.get(network.id, ())):
            for suffix in suffixes(other, network.tenant):
                if name == suffix:
                    return Addresses()
                if not name.endswith(f".{suffix}"):
                    continue
                ours, names = True, self._members[other.id].names
                if (ids := names.get(name.removesuffix(f".{suffix}"))) is not None:
                    return self._of(ids)
        if not ours:
            raise LookupError(name)
        return None

    def name(self, network: Network, address: IpAddress) -> str | None:
        """The name of an address as endpoints of a network see it: None if the address is one of these networks' and no endpoint with a name has it.
        Raises `LookupError` for all other addresses."""
        for other in (network, *self._joined.get(network.id, ())):
            ids = self._members[other.id].addresses.get(address, set())
            named = next((endpoint.name for i in sorted(ids) if (endpoint := self._indexed[i]).name), None)
            if named is not None:
                return f"{named}.{suffixes(other, network.tenant)[-1]}".lower()
            if ids or any(r is not None and address in r for r in (other.ip_range, other.ipv6_range)):
                return None
        raise LookupError(str(address))

    def _of(self, ids: Iterable[str]) -> Addresses:
        endpoints = [self._indexed[i] for i in sorted(ids)]
        return Addresses(
            ipv4=tuple(e.ipv4_address for e in endpoints if e.ipv4_address is not None),
            ipv6=tuple(e.ipv6_address for e in endpoints if e.ipv6_address is not None),
        )


def suffixes(network: Network, tenant: str | None) -> tuple[str, ...]:
    """What names of a network's endpoints may end in for those of a tenant, lower case; the last one is in answers."""
    tenants = f"{short(network.name)}.{network.tenant}" if full(network.name, network.tenant) != short(network.name) else None
    if tenant_in(network.name) is None:
        names: tuple[str | None, ...] = (tenants, network.name, network.domain)
    else:
        names = (short(network.name) if tenant == network.tenant else None, tenants, network.domain)
    return tuple(text.lower() for text in names if text)


def _names(endpoint: Endpoint) -> Iterator[str]:
    for name in (endpoint.name, *endpoint.aliases):
        if name:
            yield name.lower()


def _addresses(endpoint: Endpoint) -> Iterator[IpAddress]:
    for address in (endpoint.ipv4_address, endpoint.ipv6_address):
        if address is not None:
            yield address
