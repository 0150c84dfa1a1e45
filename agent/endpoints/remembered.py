"""Remembers the addresses that endpoints of adopted interfaces had, in a file below WARREN_RUN, for interfaces that come back."""

from __future__ import annotations

import json
from pathlib import Path

from specs.model.endpoint import Endpoint

LIMIT = 4096  # MACs; the longest unused go first


class RememberedAddresses:
    """The addresses by network and MAC. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._addresses: dict[str, dict[str, str]] | None = None  # None: not read yet

    def of(self, network_id: str, mac: str) -> dict[str, str]:
        """Return the addresses as fields of an endpoint; empty if none are known."""
        return self._read().get(f"{network_id} {mac}", {})

    def keep(self, endpoint: Endpoint) -> None:
        """Remember an endpoint's addresses."""
        addresses = self._read()
        fields = {name: getattr(endpoint, name) for name in ("ipv4_address", "ipv6_address")}
        key, value = (
            f"{endpoint.network_id} {endpoint.mac_address}",
            {name: str(a) for name, a in fields.items() if a is not None},
        )
        addresses.pop(key, None)
        addresses[key] = value  # at the end: the oldest entries go first
        while len(addresses) > LIMIT:
            del addresses[next(iter(addresses))]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".new")
        partial.write_text(json.dumps(addresses))
        partial.replace(self._path)

    def _read(self) -> dict[str, dict[str, str]]:
        if self._addresses is None:
            try:
                self._addresses = dict(json.loads(self._path.read_text()))
            except (OSError, ValueError, TypeError):
                self._addresses = {}
        return self._addresses
