"""The content of a picture as records: hosts, networks, endpoints, tunnels, mirror sessions, routers, services. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostNode:
    """A host; `notes` lists its problems. `guarded` is how many tunnel packets in clear text its guard has dropped."""

    name: str
    vtep: str
    notes: tuple[str, ...] = ()
    site: str = ""
    guarded: int = 0

    @property
    def underlay(self) -> str:
        """How it is reached, and what its guard has dropped."""
        return f"VTEP {self.vtep}" + (f", guard dropped {self.guarded}" if self.guarded else "")


@dataclass(frozen=True, slots=True)
class NetworkNode:
    """A network; `ranges` are its subnets, `gateway` its way out where it has one (mode nat or routed), `acls` those of all its endpoints."""

    name: str
    vni: int | None
    ranges: tuple[str, ...]
    mode: str
    gateway: str | None
    acls: tuple[str, ...] = ()
    tenant: str = "default"

    @property
    def way_out(self) -> str:
        """How packets leave the network; empty if they do not."""
        if self.mode == "flat":
            return ""
        return f"{self.mode} via {self.gateway}" if self.gateway else self.mode


@dataclass(frozen=True, slots=True)
class EndpointNode:
    """An endpoint; `reason` says why it is closed. `published` are PROTO HOSTPORT>PORT. `seat` says what it is behind when it has no
    cable of its own: an interface of the host (`physical`: its MAC means nothing), or another endpoint."""

    id: str
    name: str
    network: str
    host: str
    ipv4: str | None
    ipv6: str | None
    mac: str | None
    ofport: int | None
    acls: tuple[str, ...]
    published: tuple[str, ...]
    labels: tuple[str, ...]
    state: str = ""
    reason: str = ""
    seat: str = ""
    physical: bool = False

    @property
    def key(self) -> str:
        """The key in pictures: NETWORK/NAME."""
        return f"{self.network}/{self.name}"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two hosts that share networks. `broken` is the worse state that either reports for the tunnel: down, mtu (large packets are lost), or empty.
    `cipher` is that of an encrypted tunnel, empty for plain VXLAN."""

    one: str
    other: str
    networks: tuple[str, ...]
    broken: str = ""
    cipher: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """A mirror session: from endpoints, by their keys, to an endpoint's key, HOST:INTERFACE, or how and where a collector is."""

    name: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class RouterNode:
    """A router and the networks that it joins."""

    name: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceNode:
    """A service of a network: `port` is PROTO HOSTPORT>PORT; `members` are the keys of its endpoints, `label` is what selects them."""

    name: str
    network: str
    port: str
    members: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole topology, each kind sorted by name."""

    hosts: tuple[HostNode, ...]
    networks: tuple[NetworkNode, ...]
    endpoints: tuple[EndpointNode, ...]
    tunnels: tuple[Tunnel, ...]
    copies: tuple[Copies, ...] = ()
    routers: tuple[RouterNode, ...] = ()
    services: tuple[ServiceNode, ...] = ()

    def at(self, host: str) -> tuple[EndpointNode, ...]:
        """The endpoints of one host."""
        return tuple(e for e in self.endpoints if e.host == host)

    def ways_out(self, host: str) -> tuple[NetworkNode, ...]:
        """The networks with a way out that have endpoints on this host: each host is their gateway."""
        used = {e.network for e in self.at(host)}
        return tuple(n for n in self.networks if n.way_out and n.name in used)

    def mirrored(self, host: str) -> tuple[Copies, ...]:
        """The mirror sessions that copy from endpoints of this host."""
        keys = {e.key for e in self.at(host)}
        return tuple(c for c in self.copies if keys.intersection(c.sources))

    def peers(self, host: str) -> tuple[str, ...]:
        """The hosts that this host has tunnels to."""
        return tuple(t.other if t.one == host else t.one for t in self.tunnels if host in (t.one, t.other))

    def sites(self) -> tuple[str, ...]:
        """The sites that hosts are in, as the hosts are ordered; empty if there are none."""
        return tuple(dict.fromkeys(h.site for h in self.hosts)) if any(h.site for h in self.hosts) else ()


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts h2 before h10."""
    parts, digits = [], ""
    for letter in [*name, ""]:
        if letter.isdecimal():
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, letter))
    return tuple(parts)
