"""IPsec's part of the encrypted tunnels: the wanted state, a reading, their differences, and the state of each tunnel. Pure.

charon       in the host's namespace, with its UDP socket: agrees upon keys by IKEv2 with the secret of each pair
wi...        in the namespace of encrypted tunnels: ESP, which leaves in UDP (RFC 3948), so that it passes NAT

A connection's name ends with the digest of its content, a secret's id with the digest of the secret. So comparing names is enough.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.encryption.health import SILENT_S
from agent.encryption.link import TUNNEL_SETTINGS, LinkInterface, nic_differences
from agent.encryption.tunnels import SECRETS_S, Deviation, PairTunnel, TunnelPlan
from agent.linux.charon import CHILD, PRIORITY, TABLE, CharonState, SecurityAssociation
from intent.sites import EncryptedPair
from specs.ciphers import IPSEC
from specs.model.host import Host
from specs.paths import link_mtu

PLUGINS = "random nonce openssl aes sha2 hmac kdf gcm gmp curve25519 {} kernel-netlink socket-default vici"
LATER_S = 5.0  # after this time the second host of a pair initiates, too
ROTATED_S = 2 * SECRETS_S  # after this time both hosts have read a new secret
IKE, ESP = "aes256gcm16-prfsha256-curve25519", "aes256gcm16-curve25519"
ViciMessage = Mapping[str, Any]  # of VICI


@dataclass(frozen=True, slots=True, kw_only=True)
class IpsecLink:
    """The wanted state. `settings` are charon's; `kernel` says whether the kernel does ESP. `connections` and `secrets` are messages to charon, by
    name and id; `names` has the connection's name for each peer."""

    netns: str
    interface: str
    mtu: int
    kernel: bool
    if_id: int
    port: int
    settings: str
    routes: frozenset[str]
    connections: Mapping[str, ViciMessage]
    secrets: Mapping[str, ViciMessage] = field(repr=False)
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IpsecReading:
    """IPsec's part as it is on this host. None: it does not exist, or does not run. `anchored` says whether the interface for the routes of ESP in
    userspace exists."""

    settings: str | None = None
    state: CharonState | None = None
    interface: LinkInterface | None = None
    anchored: bool = False


def wanted_ipsec(plan: TunnelPlan, *, socket: str, kernel: bool) -> IpsecLink:
    """Return the wanted state of IPsec for a plan. A pair without a secret gets no connection yet."""
    assert plan.local.outside is not None
    pairs = {name: pair for name, pair in plan.pairs.items() if name in plan.secrets}
    if_id = int(plan.names.ipsec[-7:], 16) or 1
    bodies = {name: _connection(plan.local, pair, if_id if kernel else 0) for name, pair in pairs.items()}
    names = {name: f"{name}-{_digest(json.dumps(body, sort_keys=True))}" for name, body in bodies.items()}
    return IpsecLink(
        netns=plan.names.netns,
        interface=plan.names.ipsec,
        mtu=link_mtu(plan.local, IPSEC),
        kernel=kernel,
        if_id=if_id,
        port=plan.local.outside.ipsec_port,
        settings=charon_settings(socket, plan.local.outside.ipsec_port, kernel=kernel),
        routes=frozenset(f"{pair.tunnel_address}/32" for pair in plan.pairs.values()),
        connections={names[name]: body for name, body in bodies.items()},
        secrets=dict(_secret(plan.local.name, name, plan.secrets[name]) for name in pairs),
        names=names,
    )


def charon_settings(socket: str, port: int, *, kernel: bool) -> str:
    """The settings of charon: one UDP port for IKE and ESP; charon changes no routes, rules or settings of the host."""
    return f"""\
charon-systemd {{
    load_modular = no
    load = {PLUGINS.format("" if kernel else "kernel-libipsec")}
    port = 0
    port_nat_t = {port}
    install_routes = no
    install_virtual_ip = no
    process_route = no
    routing_table = {TABLE}
    routing_table_prio = {PRIORITY}
    make_before_break = yes
    retransmit_tries = 4
    retransmit_timeout = 1
    retransmit_base = 1.5
    plugins {{
        vici {{
            socket = unix://{socket}
        }}
        kernel-netlink {{
            roam_events = no
        }}
    }}
}}
"""


def _connection(local: Host, pair: EncryptedPair, if_id: int) -> ViciMessage:
    """A connection as load-conn takes it."""
    assert local.outside is not None
    interface = {"if_id_in": str(if_id), "if_id_out": str(if_id)} if if_id else {}
    child = {
        "local_ts": [f"{local.tunnel_address}/32"],
        "remote_ts": [f"{pair.tunnel_address}/32"],
        "esp_proposals": [ESP],
        "mode": "tunnel",
        "rekey_time": "1h",
        **interface,
    }
    return {
        "version": "2",
        "mobike": "no",
        "local_addrs": [str(pair.source)],
        "remote_addrs": [str(pair.target)],
        "local_port": str(local.outside.ipsec_port),
        "remote_port": str(pair.port),
        "proposals": [IKE],
        "encap": "yes",
        "dpd_delay": "5s",
        "keyingtries": "1",
        "unique": "replace",
        "rekey_time": "4h",
        "reauth_time": "24h",
        "local": {"auth": "psk", "id": f"fqdn:{local.name}"},
        "remote": {"auth": "psk", "id": f"fqdn:{pair.peer}"},
        "children": {CHILD: child},
    }


def _secret(local: str, peer: str, secret: str) -> tuple[str, ViciMessage]:
    """The id of a secret, and the secret as load-shared takes it."""
    unique = f"{peer}-{_digest(secret)}"
    return unique, {"id": unique, "type": "IKE", "data": secret, "owners": [f"fqdn:{local}", f"fqdn:{peer}"]}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(link: IpsecLink, reading: IpsecReading) -> list[Deviation]:
    """How a reading differs, as (part, phrase), in the order in which parts are repaired."""
    if reading.state is None or reading.settings is None:
        return [("charon", "charon does not run, or does not answer")]
    if reading.settings != link.settings:
        return [("charon", "charon runs with other settings")]
    if reading.interface is None:
        return [("interface", f"interface {link.interface} does not exist")]
    lines = [] if reading.anchored else [("anchor", "the interface of charon's routes does not exist")]
    lines += [("device", text) for text in _device(link, reading.interface)]
    for part, kind, wanted, current in (
        ("secrets", "secret", link.secrets.keys(), reading.state.secrets),
        ("connections", "connection", link.connections.keys(), reading.state.connections),
    ):
        lines += [(part, f"charon lacks {kind} {name}") for name in sorted(wanted - current)]
        lines += [(part, f"{kind} {name} belongs to no pair of hosts") for name in sorted(current - wanted)]
    return lines + [("sas", f"the SA of {sa.connection} belongs to no pair of hosts") for sa in foreign(link, reading.state)]


def _device(link: IpsecLink, interface: LinkInterface) -> Iterator[str]:
    yield from nic_differences(link.interface, interface, link.mtu, routes=link.routes, settings=TUNNEL_SETTINGS)
    for prefix in sorted(interface.routes - link.routes):
        yield f"the route to {prefix} by {link.interface} belongs to no pair of hosts"


def foreign(link: IpsecLink, state: CharonState) -> list[SecurityAssociation]:
    """The SAs that belong to no wanted connection."""
    return [sa for sa in state.sas if sa.connection not in link.connections]


def stale(link: IpsecLink, state: CharonState, silent: Collection[str]) -> list[SecurityAssociation]:
    """The SAs of silent peers that are old enough to have carried something."""
    silent_names = {link.names[peer] for peer in silent if peer in link.names}
    return [sa for sa in state.sas if sa.connection in silent_names and (sa.keys_age_s or 0) > SILENT_S]


def missing(link: IpsecLink, state: CharonState) -> list[str]:
    """The peers without an SA that is established or being established."""
    busy = {sa.connection for sa in state.sas if sa.age_s is None or sa.keys_age_s is not None}
    return [peer for peer, name in link.names.items() if name not in busy]


def outdated(link: IpsecLink, state: CharonState, rotated: Mapping[str, float]) -> list[SecurityAssociation]:
    """The SAs that this host initiated before their peer's secret changed. `rotated` has the age of each peer's secret in seconds."""
    ages = {link.names[peer]: age for peer, age in rotated.items() if peer in link.names and age > ROTATED_S}
    return [sa for sa in state.sas if sa.initiator and sa.age_s is not None and sa.age_s > ages.get(sa.connection, float("inf"))]


def tunnels(plan: TunnelPlan, link: IpsecLink, state: CharonState | None) -> dict[str, PairTunnel]:
    """The tunnels by peer."""
    if state is None:
        return {name: PairTunnel(reason="charon does not run on this host") for name in plan.pairs}
    return {
        name: _tunnel(pair, [sa for sa in state.sas if sa.connection == link.names.get(name)])
        for name, pair in plan.pairs.items()
    }


def _tunnel(pair: EncryptedPair, sas: list[SecurityAssociation]) -> PairTunnel:
    age_s = min((sa.keys_age_s for sa in sas if sa.keys_age_s is not None), default=None)
    why = f"no IPsec SA with {pair.endpoint} (is its UDP port open, and is the host up? do both hosts have the same secret?)"
    return PairTunnel(
        reason=why if age_s is None else None,
        age_s=age_s,
        received=sum(sa.received for sa in sas),
        sent=sum(sa.sent for sa in sas),
    )
