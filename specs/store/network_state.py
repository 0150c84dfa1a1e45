"""What a change of endpoints reads of their network, in one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from specs import keys
from specs.model.base import decode_json
from specs.model.names import short
from specs.model.network import Network
from specs.store.allowed_values import AllowedValues
from specs.store.pool import Pool
from specs.store.values import Entry, Get, Transactions, TxnOperation
from warren.errors import NotFound


class NetworkState(NamedTuple):
    """A network as it was read: its record and when that changed last, what its endpoints are allowed, the pools of its addresses."""

    network: Network
    network_revision: int
    allowed: AllowedValues
    v4: Pool
    v6: Pool


def gets_of(network_id: str) -> list[TxnOperation]:
    """What to read."""
    single = [Get(key) for key in (keys.network(network_id), keys.claim_allowed(network_id))]
    return [*single, *(Get(prefix, prefix=True) for prefix in (keys.pool_v4(network_id), keys.pool_v6(network_id)))]


def network_state(network_id: str, found: Sequence[Sequence[Entry]]) -> NetworkState:
    """The state that the answers to `gets_of` describe. Raises `NotFound`."""
    networks, allowed, v4, v6 = found
    if not networks:
        raise NotFound("network", network_id)
    return NetworkState(
        network=_network(networks[0].key, networks[0].value),
        network_revision=networks[0].mod_revision,
        allowed=AllowedValues.read(network_id, allowed),
        v4=Pool.read(keys.pool_v4(network_id), v4),
        v6=Pool.read(keys.pool_v6(network_id), v6),
    )


@lru_cache(maxsize=64)
def _network(key: str, text: str) -> Network:
    """The network of a record. A document of a thousand endpoints reads it a thousand times."""
    return decode_json(Network, text, key)


def network_called(store: Transactions, reference: str) -> Network | None:
    """The network with an id or a name; None if there is none. Older networks of tenants hold only their short name, and are found by TENANT/NAME
    nevertheless."""
    for identity in _identities(store, reference):
        entry = store.get(keys.network(identity))
        network = _network(entry.key, entry.value) if entry is not None else None
        if network is not None and reference in network.references:
            return network
    return None


def _identities(store: Transactions, reference: str) -> Iterator[str]:
    yield reference
    for name in dict.fromkeys((reference, short(reference))):
        claim = store.get(keys.claim_network_name(name))
        if claim is not None:
            yield claim.value
