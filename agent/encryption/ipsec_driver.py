"""Carries out the differences of IPsec's part: charon, its interface, secrets and connections, and the SAs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from agent.encryption.ipsec import (
    LATER_S,
    IpsecLink,
    IpsecReading,
    differences,
    foreign,
    missing,
    outdated,
    stale,
    tunnels,
    wanted_ipsec,
)
from agent.encryption.link import TUNNEL_SETTINGS, interface_of_values
from agent.encryption.tunnels import PairTunnel, TunnelPlan, converge
from agent.linux import charon, cryptolink, named_namespaces
from agent.linux.addresses import interface_of
from agent.linux.charon import CHILD, Charon, CharonState, SecurityAssociation
from specs.model.derived import LinkNames


class IpsecDriver:
    """Reads and repairs IPsec's part of one host (`TunnelDriver`). Charon's files begin with `base`."""

    def __init__(self, names: LinkNames, base: Path) -> None:
        self._names, self._charon = names, Charon(base)
        self._kernel: bool | None = None  # whether the kernel does ESP
        self._missing_since: dict[str, float] = {}
        self._secret_since: dict[str, float] = {}

    def differences(self, plan: TunnelPlan) -> list[str]:
        """Return how this host differs from the plan. Raises `WarrenError`."""
        return [text for _, text in differences(self._wanted(plan), self._read())]

    def reconcile(self, plan: TunnelPlan, silent: Collection[str]) -> Mapping[str, PairTunnel]:
        """Repair what differs, and initiate SAs that are missing. Raises `WarrenError`."""
        link = self._wanted(plan)
        reading = converge(self._read, partial(differences, link), partial(self._repair, plan, link))
        if reading.state is not None:
            self._change_sas(plan, link, reading.state, silent)
        shown = tunnels(plan, link, reading.state)
        up = [str(plan.pairs[name].tunnel_address) for name, tunnel in shown.items() if tunnel.reason is None]
        charon.greet(str(plan.local.tunnel_address), up)
        return shown

    def remove(self) -> None:
        """End charon, which takes its interface and SAs with it. Raises `WarrenError`."""
        if self._charon.settings() is not None:
            self._charon.end()
        charon.remove_anchor()
        if named_namespaces.is_ours(self._names.netns):
            cryptolink.remove_link(self._names.ipsec, netns=self._names.netns)
        self._missing_since, self._secret_since = {}, {}

    def _wanted(self, plan: TunnelPlan) -> IpsecLink:
        if self._kernel is None:
            self._kernel = charon.esp_in_kernel(self._names.netns)
        return wanted_ipsec(plan, socket=str(self._charon.socket), kernel=self._kernel)

    def _read(self) -> IpsecReading:
        netns, settings = self._names.netns, self._charon.settings()
        if settings is None or not named_namespaces.is_ours(netns):
            return IpsecReading()
        interface = cryptolink.read(self._names.ipsec, TUNNEL_SETTINGS, netns)
        return IpsecReading(
            settings=settings,
            state=self._charon.read(),
            interface=interface_of_values(interface),
            anchored=bool(self._kernel) or charon.anchor() is not None,
        )

    def _repair(self, plan: TunnelPlan, link: IpsecLink, part: str, reading: IpsecReading) -> None:
        repairs: dict[str, Callable[[], None]] = {
            "charon": partial(self._start, link),
            "interface": partial(self._make_interface, plan, link),
            "anchor": partial(self._start, link),  # the name of its interface is in charon's memory only
            "device": partial(self._set_device, link, reading),
            "secrets": partial(self._change_secrets, plan, link, reading),
            "connections": partial(self._change_connections, link, reading),
            "sas": partial(self._end_sas, foreign(link, reading.state or CharonState())),
        }
        repairs[part]()

    def _start(self, link: IpsecLink) -> None:
        self._charon.end()
        charon.remove_anchor()  # charon's own interface takes its name first
        self._charon.start(link.settings, link.port)

    def _make_interface(self, plan: TunnelPlan, link: IpsecLink) -> None:
        if link.kernel:
            assert plan.local.outside is not None
            device = plan.local.outside.interface or interface_of(plan.local.outside.address) or "lo"
            cryptolink.remove_link(link.interface)
            charon.make_xfrm(link.interface, device, link.if_id)
            cryptolink.move(link.interface, link.netns)
            return
        name = self._charon.interface()
        if name is None or cryptolink.read(name) is None:  # charon does not notice that its interface is gone
            self._start(link)
            return
        charon.adopt(name, link.netns, link.interface)

    def _set_device(self, link: IpsecLink, reading: IpsecReading) -> None:
        cryptolink.write_settings(link.interface, TUNNEL_SETTINGS, netns=link.netns)
        cryptolink.bring_up(link.interface, link.mtu, netns=link.netns)
        for prefix in link.routes:
            cryptolink.set_route(prefix, link.interface, netns=link.netns)
        for prefix in reading.interface.routes - link.routes if reading.interface is not None else ():
            cryptolink.remove_route(prefix, link.interface, netns=link.netns)

    def _change_secrets(self, plan: TunnelPlan, link: IpsecLink, reading: IpsecReading) -> None:
        current = reading.state.secrets if reading.state is not None else frozenset()
        new = link.secrets.keys() - current
        self._charon.change("load-shared", *(link.secrets[unique] for unique in sorted(new)))
        self._charon.change("unload-shared", *({"id": unique} for unique in sorted(current - link.secrets.keys())))
        changed = {peer for peer in plan.pairs for unique in new if unique.rpartition("-")[0] == peer}
        self._secret_since |= dict.fromkeys(changed, time.monotonic())

    def _change_connections(self, link: IpsecLink, reading: IpsecReading) -> None:
        current = reading.state.connections if reading.state is not None else frozenset()
        new = sorted(link.connections.keys() - current)
        self._charon.change("unload-conn", *({"name": name} for name in sorted(current - link.connections.keys())))
        self._charon.change("load-conn", *({name: link.connections[name]} for name in new))

    def _end_sas(self, sas: Collection[SecurityAssociation]) -> None:
        self._charon.try_each("terminate", [{"ike-id": sa.id, "force": "yes", "timeout": "-1"} for sa in sas])

    def _change_sas(self, plan: TunnelPlan, link: IpsecLink, state: CharonState, silent: Collection[str]) -> None:
        """End SAs of silent peers, initiate those that are missing, and authenticate those anew whose secrets have changed."""
        now = time.monotonic()
        self._end_sas(stale(link, state, silent))
        self._missing_since = {peer: self._missing_since.get(peer, now) for peer in missing(link, state)}
        due = [peer for peer, since in self._missing_since.items() if plan.local.name < peer or now - since > LATER_S]
        self._charon.try_each("initiate", [{"ike": link.names[peer], "child": CHILD, "timeout": "-1"} for peer in due])
        rotated = {peer: now - since for peer, since in self._secret_since.items()}
        again = outdated(link, state, rotated)
        self._charon.try_each("rekey", [{"ike-id": sa.id, "reauth": "yes"} for sa in again])
        renewed = {sa.connection for sa in again}
        self._secret_since = {peer: at for peer, at in self._secret_since.items() if link.names.get(peer) not in renewed}
