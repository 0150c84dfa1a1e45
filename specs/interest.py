"""Which networks concern a host, so that it reads the endpoints of these alone. Pure.

A network concerns a host if

- the host has an endpoint there (a placement, `specs.keys.placement`, or a record that is known already);
- two routers or fewer lead there from such a network: the first is routed to, the second decides whether the first tracks connections;
- an ACL that is in force in such a network names it;
- a mirror session names it together with such a network, or copies to an interface of this host.

Each of these is taken generously: a name counts for every network that has it, and an ACL counts where it is named at all. While the endpoints
of some host may lack their placements (its agent is older than they are), every network concerns every host.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from specs import keys
from specs.model.acl import Acl
from specs.model.base import decode_json
from specs.model.names import names_of
from specs.store.values import KeyRange, below
from warren.errors import Invalid

EVERYTHING = frozenset({keys.ENDPOINTS})
SMALL_KINDS = (KeyRange(keys.SPEC, keys.ENDPOINTS), KeyRange(below(keys.ENDPOINTS).end, below(keys.SPEC).end))


class _Network(NamedTuple):
    names: tuple[str, ...]
    acls: frozenset[str]


class _Mirror(NamedTuple):
    networks: frozenset[str]  # ids or names
    host: str | None  # the host of the interface that it copies to


class Interest:
    """What a host reads of the store: `ranges` always, and the prefixes that follow from what `put` has told it."""

    def __init__(self, host: str, *more: KeyRange) -> None:
        self.ranges: tuple[KeyRange, ...] = (*SMALL_KINDS, below(keys.placements_of(host)), *more)
        self._host, self._placements = host, keys.placements_of(host)
        self._placed: dict[str, str] = {}  # endpoint -> network, of this host
        self._own: dict[str, frozenset[str]] = {}  # key of an endpoint of this host -> names of its ACLs
        self._before: set[str] = set()  # networks that were its own before the last `reset`
        self.reset()

    def reset(self) -> None:
        """Forget everything, but for the networks in which this host has endpoints: until all is read again (`complete`) they
        concern it, so that an endpoint is found whose placement is missing."""
        self._before |= self._own_networks()
        self._hosts: set[str] = set()
        self._placing: set[str] = set()  # hosts whose endpoints all have placements
        self._placed, self._own = {}, {}
        self._networks: dict[str, _Network] = {}
        self._called: dict[str, set[str]] = defaultdict(set)  # name of networks -> their ids
        self._routers: dict[str, frozenset[str]] = {}
        self._mirrors: dict[str, _Mirror] = {}
        self._acls: dict[str, frozenset[str]] = {}  # the networks that its rules name
        self._everywhere: dict[str, frozenset[str]] = {}  # key of this host or of the tenant -> names of ACLs
        self._looked_up: set[str] = set()
        self._prefixes: frozenset[str] | None = None  # None: to be computed

    def complete(self) -> None:
        """Take note that everything has been put."""
        if self._before:
            self._before, self._prefixes = set(), None

    def put(self, key: str, value: str | None) -> None:
        """Take a key (value None: deleted)."""
        if key.startswith(keys.ENDPOINTS):
            self._put_endpoint(key, value)
        elif key.startswith(self._placements):
            self._set(self._placed, key.removeprefix(self._placements), value)
        elif key.startswith(keys.NETWORKS):
            self._put_network(key.removeprefix(keys.NETWORKS), value)
        elif key.startswith(keys.HOSTS):
            self._put_host(key.removeprefix(keys.HOSTS), value)
        elif key.startswith(keys.PLACING):
            self._set_member(self._placing, key.removeprefix(keys.PLACING), value is not None)
        elif key.startswith(keys.ROUTERS):
            self._set(self._routers, key, _texts(_fields(value).get("networks")) if value is not None else None)
        elif key.startswith((keys.MIRRORS, keys.CAPTURES)):
            self._set(self._mirrors, key, _mirror(_fields(value)) if value is not None else None)
        elif key.startswith(keys.ACLS):
            self._put_acl(key.removeprefix(keys.ACLS), value)
        elif key.startswith(keys.TENANTS):
            self._set(self._everywhere, key, _acls(_fields(value)))

    def prefixes(self) -> frozenset[str]:
        """The prefixes of the endpoints to read."""
        if self._prefixes is None:
            if self._hosts - self._placing:
                self._prefixes = EVERYTHING
            else:
                self._prefixes = frozenset(keys.endpoints_of(network_id) for network_id in self._concerned())
        return self._prefixes

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _set(self, mapping: dict[str, Any], key: str, value: Any) -> None:
        before = mapping.pop(key, None)
        if value is not None:
            mapping[key] = value
        if before != value:
            self._prefixes = None

    def _set_member(self, names: set[str], name: str, member: bool) -> None:
        if member != (name in names):
            (names.add if member else names.discard)(name)
            self._prefixes = None

    def _put_endpoint(self, key: str, value: str | None) -> None:
        if key not in self._own and (value is None or f'"{self._host}"' not in value):
            return  # quickly said of most
        fields = _fields(value)
        self._set(self._own, key, _acls(fields) if fields.get("host") == self._host else None)

    def _put_network(self, network_id: str, value: str | None) -> None:
        before = self._networks.pop(network_id, None)
        if before is not None:
            self._call(before, network_id, present=False)
        after = None
        if value is not None:
            fields = _fields(value)
            after = _Network(names_of(str(fields.get("name")), fields.get("tenant")), _acls(fields))
            self._networks[network_id] = after
            self._call(after, network_id, present=True)
        names = {network_id, *(name for network in (before, after) if network is not None for name in network.names)}
        if before != after and not self._looked_up.isdisjoint(names):
            self._prefixes = None

    def _call(self, network: _Network, network_id: str, *, present: bool) -> None:
        for name in network.names:
            (self._called[name].add if present else self._called[name].discard)(network_id)

    def _put_host(self, name: str, value: str | None) -> None:
        self._set_member(self._hosts, name, _fields(value).get("name") == name)  # else no agent has written it
        if name == self._host:
            self._set(self._everywhere, keys.host(name), _acls(_fields(value)))

    def _put_acl(self, name: str, value: str | None) -> None:
        """Take an ACL. One that cannot be parsed stays in force as it was."""
        try:
            rules = decode_json(Acl, value).parsed if value is not None else ()
        except Invalid:
            return
        who = (who for rule in rules for who in (rule.source, rule.target) if who is not None)
        networks = frozenset(each.network for each in who if each.network is not None)
        self._set(self._acls, name, networks if value is not None else None)

    # ---- what follows -----------------------------------------------------------------------------------------------

    def _concerned(self) -> set[str]:
        self._looked_up = set()
        own = self._own_networks() | self._before
        self._looked_up |= own
        joined: dict[str, set[str]] = defaultdict(set)
        for references in self._routers.values():
            members = self._ids(references)
            for member in members:
                joined[member] |= members
        concerned = set(own)
        for _ in range(2):
            concerned |= {other for network_id in list(concerned) for other in joined.get(network_id, ())}
        acls = {name for names in (*self._own.values(), *self._everywhere.values()) for name in names}
        acls |= {name for n in own if n in self._networks for name in self._networks[n].acls}
        concerned |= self._ids(network for name in acls for network in self._acls.get(name, ()))
        for mirror in self._mirrors.values():
            networks = self._ids(mirror.networks)
            if mirror.host == self._host or not networks.isdisjoint(own):
                concerned |= networks
        return concerned

    def _own_networks(self) -> set[str]:
        """The networks in which this host has endpoints."""
        return {*self._placed.values(), *(key.split("/")[-2] for key in self._own)}

    def _ids(self, references: Iterable[str]) -> set[str]:
        """The networks that have one of these ids or names."""
        ids: set[str] = set()
        for reference in references:
            self._looked_up.add(reference)
            ids |= self._called.get(reference, set())
            if reference in self._networks:
                ids.add(reference)
        return ids


def networks_of(prefixes: frozenset[str]) -> frozenset[str] | None:
    """The networks whose endpoints these prefixes hold; None: all."""
    return None if prefixes >= EVERYTHING else frozenset(prefix.split("/")[-2] for prefix in prefixes)


def _fields(value: str | None) -> dict[str, Any]:
    """The fields of a record; none if it is malformed."""
    try:
        data = json.loads(value) if value is not None else {}
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _texts(value: object) -> frozenset[str]:
    """The texts of a list, or a text by itself."""
    items = value if isinstance(value, list) else [value]
    return frozenset(item for item in items if isinstance(item, str))


def _acls(fields: dict[str, Any]) -> frozenset[str]:
    """The names of the ACLs of an endpoint, a network, a host or a tenant; a reference may begin with NETWORK and a colon."""
    lists = (fields.get(name) for name in ("acls", "default_acl", "vlan_out_acl", "nat_acl"))
    return frozenset(reference.rpartition(":")[2] for references in lists for reference in _texts(references))


def _mirror(fields: dict[str, Any]) -> _Mirror:
    sources, to = fields.get("sources"), fields.get("to")
    places = [place for place in (*(sources if isinstance(sources, list) else ()), to) if isinstance(place, dict)]
    host = to.get("host") if isinstance(to, dict) else None
    return _Mirror(frozenset(network for place in places if isinstance(network := place.get("network"), str)), host)
