"""netavark's words <-> those of a CNI call: podman 4.5 and later attach containers by netavark's plugins
(https://github.com/containers/netavark/blob/main/plugin-API.md). Pure.

An attachment of netavark's is one of CNI's otherwise: the same labels, the same id, the same sweep of lost containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agent.cni.messages import CniRequest, NetworkDemands, Word, endpoint_name
from agent.cni.requested import CniAddress, HostIp, Lenient, addresses, chosen, model, nothing, unset
from specs.model.base import AclReferences, IfName, Mac, Mtu
from specs.model.endpoint import Aliases
from specs.model.network import Network
from specs.model.publish import Publish
from specs.model.service import PortNumber
from warren.errors import Invalid

VERSION = "1.1.0"  # of the CNI results that are translated
PROTOCOLS = ("tcp", "udp", "sctp")
_MEMBERS = "members such as role=web, separated by commas"


def _members(value: Any) -> Any:
    """`role=web,app=shop` as a mapping: options of podman are text."""
    if value is None:
        return {}
    pairs = [pair.partition("=") for pair in value.split(",")] if isinstance(value, str) else [("", "", "")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(_MEMBERS)
    return {name: text for name, _, text in pairs}


def _names(value: Any) -> Any:
    return tuple(name for name in value.split(",") if name) if isinstance(value, str) else value


def _protocols(value: Any) -> Any:
    """`tcp,udp` as podman has it; nothing is TCP."""
    listed = tuple(value.lower().split(",")) if isinstance(value, str) and value else ("tcp",) if not value else ()
    if not listed or not set(listed) <= set(PROTOCOLS):
        raise ValueError(f"some of {', '.join(PROTOCOLS)}, separated by commas")
    return listed


class NetavarkCall(BaseModel):
    """POST /netavark: a call of the netavark plugin. `config` is the standard input, `netns` the namespace's path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Literal["create", "setup", "teardown"]
    netns: str = ""
    config: Any = None


class ContainerOptions(BaseModel):
    """Options of a network (`podman network create -o`) and of a container on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    acls: Annotated[AclReferences | None, BeforeValidator(_names)] = None
    labels: Annotated[dict[str, str], BeforeValidator(_members)] = {}


class NetworkOptions(ContainerOptions):
    """Options of a network."""

    network: Word | None = None
    socket: str | None = None  # the plugin's own: it has reached the agent by it
    mtu: Annotated[Mtu | None, BeforeValidator(unset)] = None


class Subnet(Lenient):
    """A subnet that podman's user named."""

    subnet: IPv4Network | IPv6Network
    gateway: CniAddress | None = None
    lease_range: Any = None


class NetavarkNetwork(Lenient):
    """podman's network, as far as Warren has something to say of it."""

    name: Word
    options: Annotated[NetworkOptions, BeforeValidator(lambda value: value or {})] = NetworkOptions()
    subnets: Annotated[tuple[Subnet, ...], BeforeValidator(nothing)] = ()
    internal: bool = False
    ipv6_enabled: bool = False
    network_interface: str | None = None
    ipam_options: Annotated[Mapping[str, Any], BeforeValidator(lambda value: value or {})] = {}
    routes: Any = None
    network_dns_servers: Any = None


class PodmanPorts(Lenient):
    """A published port, or `range` ports from it."""

    container_port: PortNumber
    host_port: PortNumber
    host_ip: HostIp = None
    protocol: Annotated[tuple[str, ...], BeforeValidator(_protocols)] = ("tcp",)
    range: Annotated[int, Field(ge=0, le=65_535)] = 1

    def published(self, path: str) -> list[Publish]:
        """The same as Warren has it, one for each protocol. Raises `Invalid`."""
        ports = {"host_port": self._ports(self.host_port), "port": self._ports(self.container_port), "host_ip": self.host_ip}
        try:
            return [model(Publish, {**ports, "proto": protocol}) for protocol in self.protocol]
        except Invalid as error:
            raise error.at(f"{path}.{error.path}") from None

    def _ports(self, first: int) -> int | str:
        return f"{first}-{first + self.range - 1}" if self.range > 1 else first


class PerNetworkOptions(Lenient):
    """What podman requests for this container on this network."""

    interface_name: IfName
    static_ips: Annotated[tuple[CniAddress, ...], BeforeValidator(nothing)] = ()
    static_mac: Annotated[Mac | None, BeforeValidator(unset)] = None
    aliases: Annotated[Aliases, BeforeValidator(nothing)] = ()
    options: Annotated[ContainerOptions, BeforeValidator(lambda value: value or {})] = ContainerOptions()


class SetupBody(Lenient):
    """The standard input of setup."""

    container_id: Word
    container_name: str = ""
    network: NetavarkNetwork
    network_options: PerNetworkOptions
    port_mappings: Annotated[tuple[PodmanPorts, ...], BeforeValidator(nothing)] = ()


class _Named(Lenient):
    name: Word


class _Interface(Lenient):
    interface_name: IfName


class TeardownBody(Lenient):
    """What teardown reads: mistakes elsewhere must not keep it from its work."""

    container_id: Word
    network: _Named
    network_options: _Interface


def read(call: NetavarkCall) -> CniRequest:
    """Parse a setup or teardown. Raises `Invalid` with the path into the standard input."""
    if call.command == "teardown":
        attachment: TeardownBody = model(TeardownBody, call.config)
        return _request("DEL", call.netns, attachment.container_id, attachment.network.name, attachment.network_options)
    container: SetupBody = model(SetupBody, call.config)
    network, options = container.network, container.network_options
    _refuse(network)
    mappings = enumerate(container.port_mappings)
    publish = [way for i, mapping in mappings for way in mapping.published(f"port_mappings[{i}]")]
    fields: dict[str, Any] = addresses(chosen(("network_options.static_ips", options.static_ips)))
    further = {"mac_address": options.static_mac, "aliases": options.aliases, "publish": tuple(dict.fromkeys(publish))}
    fields |= {name: value for name, value in further.items() if value}
    acls = network.options.acls if options.options.acls is None else options.options.acls
    fields |= {"acls": acls} if acls is not None else {}
    return replace(
        _request("ADD", call.netns, container.container_id, network.name, options),
        network=network.options.network or network.name,
        network_source=_source(network),
        endpoint_name=endpoint_name(container.container_name),
        fields=fields | {"labels": {**network.options.labels, **options.options.labels}},
        demands=NetworkDemands(
            mtu=chosen(("network.options.mtu", network.options.mtu)), ports=chosen(("port_mappings", container.port_mappings))
        ),
    )


def _request(command: str, netns: str, container: str, network: str, options: PerNetworkOptions | _Interface) -> CniRequest:
    return CniRequest(
        command=command, version=VERSION, name=network, network=network, network_source="network.name", container=container,
        interface=options.interface_name, netns=netns, endpoint_name=None, fields={}, demands=NetworkDemands(), dns={},
        previous=None, valid=(),
    )  # fmt: skip


def _source(network: NetavarkNetwork) -> str:
    return "network.options.network" if network.options.network else "network.name"


def _refuse(network: NetavarkNetwork) -> None:
    """Refuse what Warren does not carry out. Raises `Invalid`."""
    right = "nothing: Warren's network has"
    for name, value, instead in (
        ("routes", network.routes, "`dhcp_routes` and routers"),
        ("network_dns_servers", network.network_dns_servers, "`dns`"),
    ):
        if value:
            raise Invalid(f"network.{name}", value, f"{right} {instead}")


def read_network(config: Any) -> tuple[NetavarkNetwork, str, str]:
    """Parse the standard input of create; returns it, the name of Warren's network, and the path of that name. Raises `Invalid`."""
    try:
        network: NetavarkNetwork = model(NetavarkNetwork, config)
    except Invalid as error:
        raise error.at(f"network.{error.path}") from None
    _refuse(network)
    return network, network.options.network or network.name, _source(network)


def created(config: Mapping[str, Any], requested: NetavarkNetwork, network: Network, mtu: int) -> dict[str, Any]:
    """What create prints: podman's network without addresses of its own, because Warren assigns them, on all hosts. Raises `Invalid`
    if its user wants another network than Warren's is."""
    NetworkDemands(mtu=chosen(("network.options.mtu", requested.options.mtu))).check(network, mtu)
    ranges = {network.ip_range: network.gateway, network.ipv6_range: network.ipv6_gateway}
    for i, subnet in enumerate(requested.subnets):
        path = f"network.subnets[{i}]"
        if subnet.subnet not in ranges:
            right = " or ".join(str(range_) for range_ in ranges if range_ is not None) or "nothing"
            raise Invalid(f"{path}.subnet", str(subnet.subnet), f"{right}, as network {network.name} has it")
        gateway = ranges[subnet.subnet]
        if subnet.gateway is not None and (gateway is None or subnet.gateway != gateway.ip):
            right = f"{gateway.ip if gateway else 'nothing'}, as network {network.name} has it"
            raise Invalid(f"{path}.gateway", str(subnet.gateway), right)
        if subnet.lease_range:
            raise Invalid(f"{path}.lease_range", subnet.lease_range, "nothing: Warren assigns the addresses")
    driver = requested.ipam_options.get("driver", "none")
    for name, wrong, value, right in (
        ("ipam_options.driver", driver != "none", driver, "none: Warren assigns the addresses"),
        ("internal", requested.internal and network.mode != "flat", True, f"false: {network.name} is in mode {network.mode}"),
        ("ipv6_enabled", requested.ipv6_enabled and not network.ipv6_range, True, f"false: {network.name} has no ipv6_range"),
        ("network_interface", bool(requested.network_interface), requested.network_interface, "nothing: the bridge is Warren's"),
    ):
        if wrong:
            raise Invalid(f"network.{name}", value, right)
    return {**config, "subnets": [], "ipam_options": {"driver": "none"}, "dns_enabled": False}


def status_block(result: Mapping[str, Any], interface: str) -> dict[str, Any]:
    """The result of an ADD as setup prints it."""
    mac = next(one["mac"] for one in result["interfaces"] if one["name"] == interface and one.get("sandbox"))
    subnets = [{"ipnet": ip["address"], **({"gateway": ip["gateway"]} if "gateway" in ip else {})} for ip in result["ips"]]
    dns = result.get("dns") or {}
    search = dns.get("search") or ([dns["domain"]] if dns.get("domain") else [])
    return {
        "dns_search_domains": search,
        "dns_server_ips": dns.get("nameservers") or [],
        "interfaces": {interface: {"mac_address": mac, "subnets": subnets}},
    }
