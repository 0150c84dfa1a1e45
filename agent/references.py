"""What the specs name that does not exist, as far as this host can tell without reading all endpoints."""

from __future__ import annotations

from agent.cache import CacheView
from specs import keys
from specs.checks import called
from specs.references import References
from specs.snapshot import updated
from specs.store.etcd import Store


def references(store: Store, view: CacheView) -> References:
    """The references of all records. Reads the endpoints of networks that mirror sessions and services name and that do not concern this host."""
    if view.followed is None:
        return References(view.snapshot)
    state = view.snapshot
    named: set[str | None] = {mirror.to.network for mirror in state.copied.values()}
    named |= {source.network for mirror in state.copied.values() for source in mirror.sources}
    named |= {service.network for service in state.services.values()}
    networks = called(state.networks)
    others = {networks[name].id for name in named if name is not None and name in networks} - view.followed
    entries = [entry for network_id in sorted(others) for entry in store.list(keys.endpoints_of(network_id))[1]]
    state, _ = updated(state, [(entry.key, entry.value, entry.create_revision) for entry in entries])
    return References(state, view.followed | others)
