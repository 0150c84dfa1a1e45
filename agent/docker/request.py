"""Reads what `docker network create` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.docker.ipam import EngineBody, from_us, subnet_of
from agent.docker.options import NETWORK_OPTIONS, named_network, read
from agent.docker.validation import check_dhcp, mode_of
from specs.store.endpoints import DEFAULT_VLAN

_SETTINGS = ("host_ip", "prefix", "local_mac", "apart")  # options that are not the Warren network's but this engine's


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSubnet:
    """A range of one family, its gateway if Docker says one, and whether Warren's IPAM driver gave it."""

    v6: bool
    prefix: str
    gateway: str | None
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerNetworkRequest:
    """A network that Docker creates: the `fields` of a Warren network, the Warren network that it `named` instead, drafts of interfaces to
    put on it (`native` is their VLAN), and the `settings` that the ledger keeps."""

    docker_id: str
    internal: bool
    named: str | None
    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    interfaces: tuple[Mapping[str, Any], ...]
    subnets: tuple[DockerSubnet, ...]

    def ranges(self) -> dict[str, str]:
        """Return the fields of a Warren network for the subnets."""
        names = {False: ("ip_range", "gateway"), True: ("ipv6_range", "ipv6_gateway")}
        pairs = [(names[s.v6], (s.prefix, s.gateway)) for s in self.subnets]
        return {name: value for both in pairs for name, value in zip(*both, strict=True) if value is not None}

    def by_vlan(self, vlan: int | None) -> dict[int, list[Mapping[str, Any]]]:
        """Return the interfaces by VLAN; `vlan` is the network's own, on which are those that name none."""
        groups: dict[int, list[Mapping[str, Any]]] = {}
        for interface in self.interfaces:
            groups.setdefault(interface.get("native") or vlan or DEFAULT_VLAN, []).append(interface)
        return groups


def parse(body: EngineBody) -> DockerNetworkRequest:
    """Read the body of CreateNetwork. Raises `Invalid`."""
    options = body.get("Options") or {}
    generic, internal = options.get("com.docker.network.generic") or {}, bool(options.get("com.docker.network.internal"))
    fields = read(NETWORK_OPTIONS, generic)
    fields |= mode_of(fields, generic, internal)
    interfaces = (*fields.pop("add_ports", ()), *fields.pop("add_copro_ports", ()))
    settings = {"internal": internal, **{name: fields.pop(name) for name in _SETTINGS if name in fields}}
    subnets = [
        DockerSubnet(v6=v6, prefix=prefix, gateway=gateway, ours=from_us(body.get(data)))
        for v6, data in ((False, "IPv4Data"), (True, "IPv6Data"))
        for prefix, gateway in (subnet_of(body.get(data), v6=v6),)
        if prefix
    ]
    check_dhcp(fields, next((subnet.prefix for subnet in subnets if not subnet.v6), ""))
    return DockerNetworkRequest(
        docker_id=str(body["NetworkID"]),
        internal=internal,
        named=named_network(generic),
        fields=fields,
        settings=settings,
        interfaces=interfaces,
        subnets=tuple(subnets),
    )
