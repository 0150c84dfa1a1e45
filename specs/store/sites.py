"""Writes sites, and the secrets that pairs of hosts share."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import Any

from specs import keys
from specs.model.base import decode
from specs.model.host import Host
from specs.model.profile import Profile
from specs.model.site import Site
from specs.store.values import Delete, Get, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Invalid, NotFound


class SiteWriter(Writer):
    """The sites of a store, and the secrets of pairs. Each secret stands at a key of either host, so that a role of etcd can let a host read
    those of its own pairs alone."""

    def put_site(self, draft: dict[str, Any]) -> tuple[Site, int]:
        """Create or change a site; return it with the revision. Raises `Invalid`."""
        site = decode(Site, draft, "site")
        return self.put_record(keys.site(site.name), site)

    def make_site(self, name: str) -> None:
        """Create a site unless there is one of that name: a host that says where it is makes its site."""
        if self.store.get(keys.site(name)) is None:
            self.put_site({"name": name})

    def delete_site(self, name: str) -> int:
        """Delete a site that no host is in. Raises `NotFound`, `Conflict`."""

        def attempt() -> int | None:
            gets = (
                Get(keys.site(name)),
                Get(keys.HOSTS, prefix=True),
                Get(keys.PROFILES, prefix=True),
                Get(keys.claim_profiles()),
            )
            site, hosts, profiles, claim = self.store.txn((), gets).found
            if not site:
                raise NotFound("site", name)
            inside = sorted(host.name for entry in hosts if (host := decoded(Host, entry)) is not None and host.site == name)
            if inside:
                raise Conflict(f"site {name} has hosts: {', '.join(inside)}")
            naming = [each.name for entry in profiles if (each := decoded(Profile, entry)) is not None and name in each.sites]
            if naming:
                raise Conflict(f"site {name} is named by tunnel profile {', '.join(sorted(naming))}")
            compares = [Unchanged(entry.key, entry.mod_revision) for entry in (*site, *hosts)]
            compares.append(Unchanged(keys.claim_profiles(), claim[0].mod_revision if claim else 0))
            outcome = self.commit(compares, [Delete(keys.site(name))])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def pair_secrets(self, host: str) -> dict[str, str]:
        """Return the secrets that a host shares, by peer."""
        return {entry.key.rpartition("/")[2]: entry.value for entry in self.store.list(keys.secrets_of(host))[1]}

    def secret_pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of hosts that share a secret, each once."""
        pairs = {tuple(sorted(entry.key.split("/")[1:])) for entry in self.store.list(keys.SECRETS)[1]}
        return [(pair[0], pair[1]) for pair in sorted(pairs)]

    def make_pair_secret(self, host: str, peer: str) -> None:
        """Give a pair of hosts a secret, unless it has one."""
        pair = keys.secret(host, peer), keys.secret(peer, host)
        secret = _secret()
        self.store.txn([Unchanged(key, 0) for key in pair], [Put(key, secret) for key in pair])

    def rotate_pair_secret(self, host: str, peer: str) -> None:
        """Give a pair of hosts another secret. Raises `Invalid` for hosts that are no pair, and `NotFound`."""
        for name in (host, peer):
            if self.store.get(keys.host(name)) is None:
                raise NotFound("host", name)
        if self.store.get(keys.secret(host, peer)) is None:
            raise Invalid("pair", peer, f"a host to which {host} has an encrypted tunnel (warren crypto status)")
        secret = _secret()
        self.store.txn((), [Put(keys.secret(host, peer), secret), Put(keys.secret(peer, host), secret)])

    def forget_pair_secrets(self, host: str, peers: list[str]) -> None:
        """Delete a host's copies of secrets that it shared with hosts that are gone."""
        changes: list[TxnOperation] = [Delete(keys.secret(host, peer)) for peer in peers]
        if changes:
            self.store.txn((), changes)


def _secret() -> str:
    """Return 32 random bytes as wg(8) reads them."""
    return b64encode(secrets.token_bytes(32)).decode()
