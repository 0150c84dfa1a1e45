"""Decides whether what etcd shows follows from what this host knows. Pure.

An etcd may be restored from a backup, replaced by another cluster, or come back empty; a wrong `WARREN_PREFIX` looks the same.
Its content then says nothing about what users want, so a host that would lose something by it holds: it goes on as before,
says so in `warren status`, and waits for `warren etcd accept`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from specs import keys
from specs.snapshot import KINDS, Snapshot

SHOWN = 3  # names in a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOrigin:
    """Where a full read comes from: etcd's cluster id, the lineage, and the revision. The lineage is a random id in etcd, which the first
    process that sees etcd go back replaces: so the others notice even when the revision has grown past theirs since."""

    cluster: int
    lineage: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a full read offers a host. `lost` names what the host has and etcd does not know; `networks` counts those that etcd knows;
    `former` are other hosts whose endpoints are plugged in on this machine, while none of its own are; `accepted` is the lineage that an
    administrator has accepted."""

    origin: StoreOrigin
    accepted: str | None
    networks: int
    lost: tuple[str, ...] = ()
    former: tuple[str, ...] = ()


def continues(known: StoreOrigin | None, origin: StoreOrigin) -> bool:
    """Return whether a read continues the history that is known; None: nothing is known."""
    if known is None:
        return True
    return (known.cluster, known.lineage) == (origin.cluster, origin.lineage) and known.revision <= origin.revision


def restored(known: StoreOrigin | None, origin: StoreOrigin) -> str | None:
    """Return how a read does not continue what is known; None if it does."""
    if known is None or continues(known, origin):
        return None
    if known.cluster != origin.cluster:
        return f"etcd is another cluster than before ({origin.cluster:x} instead of {known.cluster:x})"
    if known.revision > origin.revision:
        return f"etcd was restored or emptied (revision {origin.revision} after {known.revision})"
    return "etcd was restored or emptied, or WARREN_PREFIX has changed"


def hold(host: str, known: StoreOrigin | None, offer: Offer) -> str | None:
    """Return why the host must not act on what etcd shows, with the remedy; None if it may."""
    if offer.former:
        former = offer.former[0]
        return (
            f"the endpoints plugged in on this machine belong to host {', '.join(offer.former)}, not to {host}: nothing is removed; "
            f"set WARREN_HOST={former} again, or give these endpoints up: warren host remove {former}"
        )
    if not offer.lost or offer.accepted == offer.origin.lineage:
        return None
    reason = restored(known, offer.origin)
    if reason is None and (known is not None or offer.networks):
        return None  # the deletions happened in a history that this host knows, or nothing says that they did not
    lost = f"{len(offer.lost)} that this host has ({', '.join(offer.lost[:SHOWN])}{', ...' if len(offer.lost) > SHOWN else ''})"
    what = "it holds no networks" if not offer.networks else "it lacks networks or endpoints"
    return (
        f"{reason or 'etcd is empty'}; {what}, among them {lost}: forwarding goes on as before and nothing is removed; restore "
        "etcd, correct WARREN_ETCD or WARREN_PREFIX, or give them up: warren etcd accept"
    )


def former_hosts(host: str, plugged: Iterable[str | None]) -> tuple[str, ...]:
    """Return the other hosts whose endpoints are plugged in here, if none of them is this host's. `plugged` are the hosts that the records
    of the plugged endpoints name; None: no record."""
    hosts = {name for name in plugged if name is not None}
    return tuple(sorted(hosts)) if host not in hosts else ()


def lost(known: Snapshot, offered: Collection[str], host: str, followed: Collection[str] | None) -> tuple[str, ...]:
    """Return the names of the known objects whose keys are not offered. Captures and the networks of hosts are written again by their
    processes, so they do not count; a host counts until it has registered again. Of endpoints count those of this host, and those of
    the networks whose endpoints were read (`followed`; None: all)."""
    counted = (e for e in known.endpoints.values() if e.host == host or followed is None or e.network_id in followed)
    names = {keys.endpoint(e.network_id, e.id): f"endpoint {e.name or e.id}" for e in counted}
    for prefix, _, kind in KINDS:
        if kind not in ("endpoint", "capture", "hostnet"):
            objects = getattr(known, f"{kind}s")
            names |= {f"{prefix}{key}": f"{kind} {getattr(record, 'name', key)}" for key, record in objects.items()}
    return tuple(sorted(name for key, name in names.items() if key not in offered))
