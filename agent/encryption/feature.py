"""Encryption: reconciles the encrypted tunnels of this host to other hosts, and the guard.

The controller sends to a host of another site only while OVSDB says that the tunnel to it is up (`Ovsdb.set_encrypted`). This feature writes that
after the guard is in force.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict

from agent.cache import Cache
from agent.encryption.allowlist import TABLE as ALLOW_LIST
from agent.encryption.driver import LinkDriver
from agent.encryption.guard import TABLE, Guard, ruleset
from agent.encryption.health import PairHealth, PairState
from agent.encryption.ipsec_driver import IpsecDriver
from agent.encryption.link import BRIDGE, CryptoLink, wanted_link
from agent.encryption.metrics import OutsideMetrics
from agent.encryption.outside import outside_interface
from agent.encryption.tunnels import SECRETS_S, PairTunnel, TunnelDriver, TunnelPlan
from agent.encryption.wireguard_driver import WireguardDriver
from agent.feature import Feature
from agent.linux import named_namespaces, nft, wireguard
from agent.linux.nft import OwnTable
from agent.remote import Forwarded, Remote
from intent.sites import EncryptedPair, encrypted_mark, pairs, tunnel_udp_ports, without_path
from ovsdb.client import Ovsdb
from pipeline.tunnels import VXLAN_UDP_PORT
from specs.ciphers import IPSEC, WIREGUARD
from specs.model.base import Name
from specs.model.derived import LinkNames
from specs.model.host import Host
from specs.model.profile import all_profiles
from specs.paths import DEFAULT_MTU
from specs.store.repository import Repository
from warren.errors import Unavailable, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.encryption")

INTERVAL_S = 2.0  # the longest time until a change by others is repaired


class RotateBody(BaseModel):
    """POST /encryption/rotate: the two hosts of a pair; without them, all pairs."""

    model_config = ConfigDict(extra="forbid")

    pair: tuple[Name, Name] | None = None


class Encryption(Feature):
    """Reconciles the encrypted tunnels. `userspace` returns whether the switch's datapath is in userspace, and raises `Unavailable` without a
    switch; `on_change` is called when `problems` have changed."""

    def __init__(
        self,
        cache: Cache,
        repository: Repository,
        ovsdb: Ovsdb,
        remote: Remote,
        *,
        names: LinkNames,
        key_file: Path,
        ipsec: Path,
        userspace: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._cache, self._repository, self._ovsdb, self._remote = cache, repository, ovsdb, remote
        self._names, self._userspace, self._on_change = names, userspace, on_change
        self._link, self._guard, self._health = LinkDriver(ovsdb, names), OwnTable(TABLE, "guard"), PairHealth(time.monotonic)
        self._drivers: Mapping[str, TunnelDriver] = {
            WIREGUARD: WireguardDriver(names, key_file),
            IPSEC: IpsecDriver(names, ipsec),
        }
        self._secrets: Mapping[str, str] = {}
        self._secrets_read_at: float | None = None
        self._pairs: tuple[PairState, ...] = ()
        self._up: frozenset[str] = frozenset()  # marks of tunnels that are up
        self._metrics = OutsideMetrics(
            cache.host, lambda: self._pairs, self._guard.packets, lambda: nft.packets(ALLOW_LIST).get("refused", 0)
        )
        self._lines: list[str] = []
        self._worker = Worker("encryption", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.updated.add(lambda before, after, changes: self._look(changes))

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def router(self) -> APIRouter:
        """Return the routes that show the encrypted tunnels of this host, give their metrics, and rotate secrets."""
        router = APIRouter(tags=["Warren"])

        @router.get("/hosts/{name}/encryption")
        def encryption(name: str, forwarded: Forwarded = None) -> Any:
            """The encrypted tunnels of a host, and how many tunnel packets in clear text its guard has dropped."""
            if not self._remote.is_local(name, forwarded):
                return self._remote.request_json(name, "GET", "/encryption")
            return {"host": name, "pairs": [asdict(pair) for pair in self._pairs], "dropped": self._guard.packets()}

        @router.get("/metrics", response_class=PlainTextResponse)
        def metrics() -> str:
            """Metrics of this host's encrypted tunnels, guard and allow list, as Prometheus reads them (docs/metrics.md)."""
            return self._metrics.text()

        @router.post("/encryption/rotate")
        def rotate(body: RotateBody) -> dict[str, Any]:
            """Give a pair of hosts, or all pairs, a new secret for their tunnel. No packet is lost: sessions last until the next handshake."""
            named = [body.pair] if body.pair is not None else self._repository.secret_pairs()
            for first, second in named:
                self._repository.rotate_pair_secret(first, second)
            return {"rotated": named}

        return router

    def problems(self) -> list[str]:
        """Return which hosts encrypted tunnels do not reach, and why."""
        return self._lines

    def differences(self) -> list[str]:
        """Return how namespace, interfaces, bridge, peers and guard differ from what is wanted."""
        local = self._local()
        if local is None or local.outside is None:
            remains = named_namespaces.exists(self._names.netns)
            return [f"encryption: namespace {self._names.netns} exists"] if remains else []
        link = self._wanted_link(local)
        lines = self._link.differences(link) if link is not None else []
        for cipher, plan in self._plans(local, self._wanted(local)[0]).items() if link is not None else ():
            lines += self._drivers[cipher].differences(plan)
        return [*self._guard.differences(self._wanted_guard(local)), *(f"encryption: {line}" for line in lines)]

    def _look(self, changes: Sequence[Any]) -> None:
        if any(change.kind in ("host", "site", "profile", "firewall") for change in changes):
            self._worker.wake()

    def _local(self) -> Host | None:
        return self._cache.view.snapshot.hosts.get(self._cache.host)

    def _wanted(self, local: Host) -> tuple[dict[str, EncryptedPair], dict[str, str]]:
        snapshot = self._cache.view.snapshot
        return pairs(local, snapshot.hosts, snapshot.profiles)

    def _wanted_link(self, local: Host) -> CryptoLink | None:
        return wanted_link(local, names=self._names, userspace=self._userspace())

    def _plans(self, local: Host, wanted: Mapping[str, EncryptedPair]) -> dict[str, TunnelPlan]:
        """Return a plan for each cipher in use; without pairs, one for WireGuard, so that it is ready for the first peer."""
        ciphers = {pair.cipher for pair in wanted.values()} or {WIREGUARD}
        profiles = all_profiles(self._cache.view.snapshot.profiles) if len(ciphers) > 1 else ()
        return {
            cipher: TunnelPlan(
                names=self._names,
                local=local,
                pairs={pair.peer: pair for pair in wanted.values() if pair.cipher == cipher},
                secrets=self._secrets,
                ports=frozenset(profile.port for profile in profiles if profile.cipher == cipher),
            )
            for cipher in ciphers
        }

    def _wanted_guard(self, local: Host) -> str | None:
        """Return the guard's rules; None if an administrator has switched it off. Raises `Invalid`."""
        snapshot = self._cache.view.snapshot
        if snapshot.firewall.mode == "off":
            return None
        ports = tuple(sorted(tunnel_udp_ports(snapshot.profiles) | {VXLAN_UDP_PORT}))
        interface, decrypted = outside_interface(local, self._ovsdb), (BRIDGE, self._names.near)
        return ruleset(Guard(interface=interface, decrypted=decrypted, ports=ports))

    def _step(self, items: frozenset[str]) -> None:
        local = self._local()
        if not self._cache.synced.is_set() or local is None:
            return
        wanted, lacking = self._wanted(local)
        states: tuple[PairState, ...] = ()
        try:
            if local.outside is None or local.tunnel_address is None:
                self._remove()
            else:
                states = self._hold(local, wanted)
        finally:  # whatever fails here, the controller must not send by a tunnel that does not exist
            self._report(local, lacking, states)
            self._publish(states)

    def _report(self, local: Host, lacking: Mapping[str, str], states: Sequence[PairState]) -> None:
        """Say in `warren status` which hosts are not reached, and why."""
        lines = [f"no tunnel to host {name}: {reason}" for name, reason in lacking.items()]
        lines += [f"encrypted tunnel to host {state.peer}: {state.reason}" for state in states if not state.up]
        snapshot = self._cache.view.snapshot
        lines += without_path(local, snapshot.hosts, snapshot.profiles)
        changed, self._lines = lines != self._lines, lines
        if changed:
            self._on_change()

    def _hold(self, local: Host, wanted: Mapping[str, EncryptedPair]) -> tuple[PairState, ...]:
        if (guard := self._wanted_guard(local)) is not None:
            self._guard.reconcile(guard)
        else:
            self._guard.remove()
        self._read_secrets(wanted)
        link = self._wanted_link(local)
        if link is None:
            return ()
        self._link.reconcile(link)
        plans = self._plans(local, wanted)
        tunnels: dict[str, PairTunnel] = {}
        for cipher, driver in self._drivers.items():
            if cipher in plans:
                shown = self._tunnels(driver, plans[cipher], self._health.silent(cipher))
                tunnels |= {encrypted_mark(peer, cipher): tunnel for peer, tunnel in shown.items()}
            else:
                driver.remove()
        return self._health.states(wanted, tunnels, self._secrets)

    def _tunnels(self, driver: TunnelDriver, plan: TunnelPlan, silent: Collection[str]) -> Mapping[str, PairTunnel]:
        """Let a cipher repair its part. If it fails, that concerns its own pairs only."""
        try:
            return driver.reconcile(plan, silent)
        except WarrenError as error:
            if not plan.pairs:
                raise
            return {name: PairTunnel(reason=str(error)) for name in plan.pairs}

    def _publish(self, states: Sequence[PairState]) -> None:
        up = frozenset(encrypted_mark(state.peer, state.cipher) for state in states if state.up)
        for mark in sorted(up ^ self._up):
            log.info("encryption.changed tunnel=%s up=%s", mark, mark in up)
        self._pairs, self._up = tuple(states), up
        self._ovsdb.set_encrypted(up)

    def _remove(self) -> None:
        """Remove what was made for an earlier outside address."""
        if named_namespaces.exists(self._names.netns):
            self._ovsdb.set_encrypted(())
            for driver in self._drivers.values():
                driver.remove()
            self._link.remove()
            self._guard.remove()

    def _read_secrets(self, wanted: Mapping[str, EncryptedPair]) -> None:
        """Read the secrets, and make those that are missing. While etcd is unavailable, keep those that were read last."""
        due = self._secrets_read_at is None or time.monotonic() - self._secrets_read_at >= SECRETS_S
        peers = {pair.peer for pair in wanted.values()}
        if not due and peers <= self._secrets.keys():
            return
        try:
            secrets = self._repository.pair_secrets(self._cache.host)
            missing = sorted(peers - secrets.keys())
            for peer in missing:
                self._repository.make_pair_secret(self._cache.host, peer)
            gone = sorted(secrets.keys() - self._cache.view.snapshot.hosts.keys())
            self._repository.forget_pair_secrets(self._cache.host, gone)
            self._secrets = self._repository.pair_secrets(self._cache.host) if missing else secrets
            self._secrets_read_at = time.monotonic()
        except Unavailable as error:
            log.info("encryption.secrets_not_read reason=%s", error)


def of_outside(key_file: Path, mtu_of: Callable[[Any], int | None]) -> Callable[[Host], dict[str, Any]]:
    """Return the function that computes the fields of a host's record that follow from its outside address: its MTU and WireGuard's public key.
    `mtu_of` returns the MTU of the interface with an address. A host with a wrong outside address still registers: `Encryption` reports what
    is wrong."""

    def fields(host: Host) -> dict[str, Any]:
        if host.outside is None:
            return {"outside_mtu": None, "public_key": None}
        try:
            key = wireguard.public_key(wireguard.key_of(key_file))
        except Unavailable:
            key = None
        return {"outside_mtu": mtu_of(host.outside.address) or DEFAULT_MTU, "public_key": key}

    return fields
