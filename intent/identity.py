"""The identity of an endpoint in connection tracking. Pure."""

from __future__ import annotations

from hashlib import blake2b

from specs.model.endpoint import Endpoint


def identity(endpoint: Endpoint) -> int:
    """32 bits, never 0, that connections of an endpoint carry in their label: a digest of its id and of its host. An endpoint that
    moves, or another one with its address, has another identity."""
    return int.from_bytes(blake2b(f"{endpoint.id}@{endpoint.host}".encode(), digest_size=4).digest(), "big") or 1
