"""The declared state of the whole system, decoded from the store. A malformed record is left out, and listed in `malformed`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from specs import keys
from specs.model.acl import Acl
from specs.model.adoption import Adoption
from specs.model.base import Record, decode_json
from specs.model.cluster import CLUSTER, Cluster
from specs.model.endpoint import Endpoint
from specs.model.firewall import FIREWALL, Firewall
from specs.model.host import Host
from specs.model.hostnet import HostNetwork
from specs.model.meter import Meter
from specs.model.mirror import Capture, Mirror
from specs.model.network import Network
from specs.model.profile import Profile
from specs.model.router import Router
from specs.model.service import Service
from specs.model.site import Site
from specs.model.tenant import Tenant
from warren.errors import MISSING, Invalid


class Problem(NamedTuple):
    """Something in the specs that cannot be carried out: `about` is KIND/NAME, `reason` one line."""

    about: str
    reason: str


@dataclass(slots=True)
class Snapshot:
    """All valid records. `born` holds etcd's create revision by KIND/ID: the record created first wins a conflict, on every host.

    `put` changes a snapshot in place; `updated` returns a new one. `rivals` is internal to these two.
    """

    clusters: dict[str, Cluster] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    firewalls: dict[str, Firewall] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    hostnets: dict[str, HostNetwork] = field(default_factory=dict)  # by host
    networks: dict[str, Network] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    acls: dict[str, Acl] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    adoptions: dict[str, Adoption] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    born: dict[str, int] = field(default_factory=dict)
    malformed: dict[str, str] = field(default_factory=dict)
    rivals: dict[str, dict[str, tuple[int, Record]]] = field(default_factory=dict)  # kind/id -> key -> (born, record)

    @property
    def cluster(self) -> Cluster:
        """The settings of the cluster."""
        return self.clusters.get(CLUSTER) or Cluster()

    @property
    def firewall(self) -> Firewall:
        """The settings of the firewall."""
        return self.firewalls.get(FIREWALL) or Firewall()

    @property
    def copied(self) -> dict[str, Mirror]:
        """All mirror sessions, with the temporary ones."""
        return {**self.captures, **self.mirrors}


# kinds whose last valid record stays in force when a malformed one replaces it: without it working ports would be closed
STANDING = (keys.ACLS, keys.METERS, keys.TENANTS, keys.CLUSTERS, keys.SITES, keys.PROFILES, keys.FIREWALLS)

KINDS: tuple[tuple[str, type[Record], str], ...] = (
    (keys.HOSTS, Host, "host"),
    (keys.CLUSTERS, Cluster, "cluster"),
    (keys.SITES, Site, "site"),
    (keys.PROFILES, Profile, "profile"),
    (keys.FIREWALLS, Firewall, "firewall"),
    (keys.HOSTNETS, HostNetwork, "hostnet"),
    (keys.NETWORKS, Network, "network"),
    (keys.ENDPOINTS, Endpoint, "endpoint"),
    (keys.ACLS, Acl, "acl"),
    (keys.METERS, Meter, "meter"),
    (keys.TENANTS, Tenant, "tenant"),
    (keys.CAPTURES, Capture, "capture"),  # before Mirror, of which it is a kind
    (keys.MIRRORS, Mirror, "mirror"),
    (keys.ROUTERS, Router, "router"),
    (keys.SERVICES, Service, "service"),
    (keys.ADOPTIONS, Adoption, "adoption"),
)


class Decoded(NamedTuple):
    """An entry below `spec/`: the kind of object, its id (or name, if the kind has no ids), the record or None, what is wrong with it."""

    kind: str
    id: str
    record: Record | None
    error: str | None


def decode_entry(key: str, value: str | None) -> Decoded | None:
    """Decodes one entry; value None is a deletion. None for a key that is not a spec. Key and record must have the same name or id."""
    for prefix, record_type, kind in KINDS:
        if not key.startswith(prefix):
            continue
        name = key.rpartition("/")[2]
        if value is None:
            return Decoded(kind, name, None, None)
        try:
            record = decode_json(record_type, value, key)
            _check_key(key, record)
        except Invalid as error:
            return Decoded(kind, name, None, str(error))
        return Decoded(kind, name, record, None)
    return None


def _check_key(key: str, record: Record) -> None:
    if isinstance(record, Host):
        expected = keys.host(record.name)
    elif isinstance(record, Network):
        expected = keys.network(record.id)
    elif isinstance(record, Endpoint):
        expected = keys.endpoint(record.network_id, record.id)
    else:
        expected = next(prefix for prefix, kind, _ in KINDS if isinstance(record, kind)) + getattr(record, "name")  # noqa: B009
    if key != expected:
        raise Invalid(key, MISSING, expected, problem=f"its record belongs at {expected}")


def snapshot(entries: Iterable[tuple[str, str, int]]) -> Snapshot:
    """A snapshot from (key, value, create revision)."""
    result = Snapshot()
    for key, value, born in entries:
        put(result, key, value, born)
    return result


def updated(before: Snapshot, changes: Iterable[tuple[str, str | None, int]]) -> tuple[Snapshot, list[Decoded]]:
    """A new snapshot with the changes, each (key, value or None, create revision), and the decoded entries. `before` does not change, so
    other threads may go on reading it; only the mappings that change are copied."""
    after, copied = replace(before, born=dict(before.born), malformed=dict(before.malformed)), set[str]()
    decoded_changes: list[Decoded] = []
    for key, value, born in changes:
        decoded = decode_entry(key, value)
        if decoded is None:
            continue
        name = f"{decoded.kind}s"
        if name not in copied:
            copied.add(name)
            setattr(after, name, dict(getattr(after, name)))
        decoded_changes.append(_take(after, key, decoded, born))
    return after, decoded_changes


def put(state: Snapshot, key: str, value: str | None, born: int) -> Decoded | None:
    """Puts one entry (value None: deleted) into the snapshot, in place; returns it decoded.

    If two keys have one id (somebody put an endpoint under a second network by hand), the key created first counts.
    """
    decoded = decode_entry(key, value)
    return _take(state, key, decoded, born) if decoded is not None else None


def _take(state: Snapshot, key: str, decoded: Decoded, born: int) -> Decoded:
    objects: dict[str, Record] = getattr(state, f"{decoded.kind}s")
    identity = f"{decoded.kind}/{decoded.id}"
    rivals = state.rivals.setdefault(identity, {})
    before = rivals.pop(key, None)
    state.malformed.pop(key, None)
    if decoded.record is not None:
        rivals[key] = (born, decoded.record)
    elif decoded.error is not None:
        state.malformed[key] = decoded.error
        if before is not None and key.startswith(STANDING):
            rivals[key] = before
            state.malformed[key] += "; its last valid value stays in force"
            return decoded._replace(record=before[1])
    if not rivals:
        del state.rivals[identity]
        objects.pop(decoded.id, None)
        state.born.pop(identity, None)
        return decoded
    first = min(rivals, key=lambda rival: (rivals[rival][0], rival))
    state.born[identity], objects[decoded.id] = rivals[first]
    for rival in rivals:
        state.malformed.pop(rival, None)
        if rival != first:
            state.malformed[rival] = f"{decoded.id} stands at {first} already"
    return decoded
