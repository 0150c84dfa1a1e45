"""CNI's words <-> Warren's: parses a runtime's call, and forms the answer in each version of the specification
(https://www.cni.dev/docs/spec/). Pure.

Other keys of the configuration are ignored: other plugins and newer runtimes have keys of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent.cni.requested import (
    Arguments,
    Choice,
    Dns,
    Lenient,
    Requested,
    RuntimeConfig,
    addresses,
    chosen,
    model,
    nothing,
    published,
    refuse_unsupported,
)
from specs.model.base import AclReferences, Flag, IfName, Labels
from specs.model.endpoint import CNI_CONTAINER
from specs.model.names import NetworkName
from specs.model.network import Network
from warren.errors import MISSING, Invalid

VERSIONS = {"0.3.0": (0, 3, 0), "0.3.1": (0, 3, 1), "0.4.0": (0, 4, 0), "1.0.0": (1, 0, 0), "1.1.0": (1, 1, 0)}
SINCE = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}
COMMANDS = ("ADD", "DEL", "CHECK", "STATUS", "GC")
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "STATUS": (),
    "GC": (),
}
CONTAINER, NETWORK, INTERFACE = (
    CNI_CONTAINER,
    "cni.network",
    "cni.interface",
)  # labels of endpoints; a call's key in the specification
ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")  # the second is the key of an early draft of the specification
CONTAINER_NAME = "K8S_POD_NAME"  # in CNI_ARGS: podman sends the container's name there

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def _word(value: str) -> str:
    if not _WORD.match(value):
        raise ValueError("letters, digits, '_', '.' and '-', beginning with a letter or digit")
    return value


Word = Annotated[str, AfterValidator(_word)]


class CniLabel(Lenient):
    """One of `args.cni.labels`."""

    key: str
    value: str


class CniArgs(Arguments):
    """`args.cni`."""

    labels: Annotated[tuple[CniLabel, ...], BeforeValidator(nothing)] = ()


class Args(Lenient):
    """`args`."""

    cni: CniArgs = CniArgs()


class CniConfig(Requested):
    """A network configuration, as far as ADD reads it. Without `ipMasq` the network's mode says whether addresses are translated."""

    name: Word
    network: NetworkName | None = None
    acls: AclReferences | None = None
    labels: Labels = {}
    args: Args = Args()
    dns: Annotated[Dns, BeforeValidator(lambda value: value or {})] = Dns()
    ip_masq: Flag | None = Field(default=None, alias="ipMasq")
    ipam: Any = None
    runtime_config: RuntimeConfig = Field(default=RuntimeConfig(), alias="runtimeConfig")


class ValidAttachment(Lenient):
    """One of the attachments that GC keeps."""

    container: str = Field(alias="containerID")
    interface: str = Field(alias="ifname")


class ValidAttachments(Lenient):
    """The attachments that GC keeps."""

    valid: tuple[ValidAttachment, ...]


class CniCall(BaseModel):
    """POST /cni: a runtime's call of the plugin. `environment` has CNI_COMMAND and the others, `config` is the standard
    input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: dict[str, str]
    config: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDemands:
    """What a call presumes of its network."""

    mtu: Choice | None = None
    ports: Choice | None = None
    masquerade: bool | None = None

    def check(self, network: Network, mtu: int) -> None:
        """Compare with the network, whose endpoints have an MTU of `mtu` bytes. Raises `Invalid`."""
        if self.ports is not None and network.mode != "nat":
            ports = ", ".join(str(mapping.host_port) for mapping in self.ports.value)
            raise Invalid(self.ports.path, ports, f"a network in mode nat; {network.name} is {network.mode}")
        if self.mtu is not None and self.mtu.value != mtu:
            right = f"nothing or {mtu}, the MTU of all endpoints of network {network.name} (`warren network set` changes it)"
            raise Invalid(self.mtu.path, self.mtu.value, right)
        if self.masquerade is not None and self.masquerade != (network.mode == "nat"):
            right = f"nothing or {str(network.mode == 'nat').lower()}: network {network.name} is in mode {network.mode}"
            raise Invalid("ipMasq", self.masquerade, right)


@dataclass(frozen=True, slots=True, kw_only=True)
class CniRequest:
    """A parsed call. `network_source` is the key that names the network; `dns` is what the call says of it, over the network's own."""

    command: str
    version: str
    name: str
    network: str
    network_source: str
    container: str
    interface: str
    netns: str
    endpoint_name: str | None
    fields: Mapping[str, Any]
    demands: NetworkDemands
    dns: Mapping[str, Any]
    previous: Mapping[str, Any] | None
    valid: tuple[tuple[str, str], ...]


def read(call: CniCall) -> CniRequest:
    """Parse a call. Raises `Invalid`; its path is `cniVersion`, a variable of the environment, or leads into the
    configuration."""
    command = call.environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise Invalid("CNI_COMMAND", command, f"one of {', '.join(COMMANDS)}, VERSION")
    config = call.config
    if not isinstance(config, dict):
        raise Invalid(
            "network configuration", config, 'a JSON object such as {"cniVersion": "1.0.0", "name": "amber", "type": "warren"}'
        )
    version = _version(config, command)
    environment = {name: _variable(call.environment, name) for name in NEEDED[command]}
    whole = model(CniConfig, config) if command == "ADD" else None
    name = whole.name if whole else model(CniConfig, {"name": config.get("name", "")}).name
    network_source = "network" if config.get("network") else "name"
    network = whole.network if whole else config.get("network")
    arguments = _arguments(call.environment.get("CNI_ARGS", ""))
    called = arguments.get(CONTAINER_NAME, "")
    return CniRequest(
        command=command,
        version=version,
        name=name,
        network=str(network or name),
        network_source=network_source,
        container=environment.get("CNI_CONTAINERID", ""),
        interface=environment.get("CNI_IFNAME", ""),
        netns=call.environment.get("CNI_NETNS", ""),
        endpoint_name=endpoint_name(called),
        fields=_fields(whole, arguments) if whole else {},
        demands=_network_demands(whole) if whole else NetworkDemands(),
        dns={**whole.dns.result(), **whole.runtime_config.dns.result()} if whole else {},
        previous=_previous(config, command),
        valid=_valid(config) if command == "GC" else (),
    )


def endpoint_name(container: str) -> str | None:
    """The name of a container as that of its endpoint, if an endpoint may be called so."""
    return container if _WORD.match(container) and len(container) <= 63 else None


def endpoint_id(host: str, name: str, container: str, interface: str) -> str:
    """The id of an attachment's endpoint: the same for ADD, DEL and CHECK. The host is part of it, because runtimes that let
    users name containers may have one id on two hosts."""
    return "cni-" + hashlib.sha256("\0".join((host, name, container, interface)).encode()).hexdigest()[:32]


def result(
    call: CniRequest,
    interfaces: Sequence[Mapping[str, Any]],
    addresses: Sequence[tuple[str, str | None]],
    gateways: Sequence[str],
    dns: Mapping[str, Any],
) -> dict[str, Any]:
    """What ADD prints, appended to the results of earlier plugins of a chain: `interfaces` are the host's and the
    container's, `addresses` (CIDR, gateway) those of the second, `gateways` those of its default routes."""
    before = call.previous or {}
    interfaces_before = list(before.get("interfaces") or ())
    since = VERSIONS[call.version]
    ips = []
    for address, gateway in addresses:
        family = {} if since >= (1, 0, 0) else {"version": str(ip_interface(address).version)}
        via = {"gateway": gateway} if gateway else {}
        ips.append({**family, "address": address, **via, "interface": len(interfaces_before) + 1})
    dropped = () if since >= (1, 1, 0) else ("mtu",)
    printed = {
        "cniVersion": call.version,
        "interfaces": interfaces_before + [{k: v for k, v in one.items() if k not in dropped} for one in interfaces],
        "ips": [*(before.get("ips") or ()), *ips],
        "routes": [
            *(before.get("routes") or ()),
            *({"dst": "::/0" if ":" in via else "0.0.0.0/0", "gw": via} for via in gateways),
        ],
        "dns": {**dns, **{k: v for k, v in (before.get("dns") or {}).items() if v}, **call.dns},
    }
    return {name: value for name, value in printed.items() if value or name in ("cniVersion", "interfaces", "ips")}


def expected(previous: Mapping[str, Any], interface: str) -> tuple[str | None, list[str], list[str]]:
    """The container's interface in the result of its ADD: MAC, addresses with prefix length, gateways of default routes.
    Raises `Invalid`."""
    interfaces = list(previous.get("interfaces") or ())
    ours = [i for i, one in enumerate(interfaces) if one.get("name") == interface and one.get("sandbox")]
    mac = next((str(interfaces[i]["mac"]).lower() for i in ours if interfaces[i].get("mac")), None)
    listed = [str(ip["address"]) for ip in previous.get("ips") or () if ip.get("interface") in ours and ip.get("address")]
    try:
        addresses = [str(ip_interface(address)) for address in listed]
    except ValueError as error:
        raise Invalid("prevResult.ips", listed, f"addresses with prefix length ({error})") from None
    routes = [route for route in previous.get("routes") or () if route.get("dst") in ("0.0.0.0/0", "::/0")]
    return mac, addresses, [str(route["gw"]) for route in routes if route.get("gw")]


# ---- the parts of a call -----------------------------------------------------------------------------------------------


def _version(config: Mapping[str, Any], command: str) -> str:
    version = config.get("cniVersion")
    if not isinstance(version, str) or version not in VERSIONS:
        raise Invalid("cniVersion", MISSING if version is None else version, f"one of {', '.join(VERSIONS)}")
    since = SINCE.get(command, "0.3.0")
    if VERSIONS[version] < VERSIONS[since]:
        raise Invalid("cniVersion", version, f"{since} or later: {command} is not in older ones")
    return version


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise Invalid(name, MISSING, "the runtime must set it")
    try:
        if name == "CNI_CONTAINERID":
            _word(value)
        if name == "CNI_IFNAME":
            model(_Interface, {"name": value})
    except ValueError as error:
        raise Invalid(name, value, str(error)) from None
    except Invalid as error:
        raise Invalid(name, value, error.expected) from None
    return value


class _Interface(Lenient):
    name: IfName


def _arguments(text: str) -> dict[str, str]:
    """CNI_ARGS: `IP=10.0.0.5;MAC=02:...`. Unknown words are ignored, with or without IgnoreUnknown."""
    return {name: value for name, _, value in (pair.partition("=") for pair in text.split(";")) if name and value}


def _outer(arguments: Mapping[str, str]) -> Arguments:
    """The addresses in CNI_ARGS. Raises `Invalid`."""
    ips = tuple(arguments["IP"].split(",")) if "IP" in arguments else ()
    try:
        outer: Arguments = model(Arguments, {"ips": ips, "mac": arguments.get("MAC")})
    except Invalid as error:
        name = "IP" if error.path.startswith("ips") else "MAC"
        raise Invalid(f"CNI_ARGS.{name}", error.value, error.expected) from None
    return outer


def _fields(config: CniConfig, arguments: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the endpoint, as POST /endpoints takes them. If several places give a value, the one nearest to the
    runtime wins."""
    runtime, inner, outer = config.runtime_config, config.args.cni, _outer(arguments)
    refuse_unsupported(
        {
            "runtimeConfig.bandwidth": runtime.bandwidth,
            "runtimeConfig.ipRanges": runtime.ip_ranges,
            "runtimeConfig.infinibandGUID": runtime.infiniband_guid,
            "runtimeConfig.deviceID": runtime.device_id,
            "bandwidth": config.bandwidth,
            "ipam": config.ipam,
        }
    )
    fields: dict[str, Any] = addresses(
        chosen(("runtimeConfig.ips", runtime.ips), ("args.cni.ips", inner.ips), ("CNI_ARGS.IP", outer.ips), ("ips", config.ips))
    )
    further = {
        "mac_address": runtime.mac or inner.mac or outer.mac or config.mac,
        "publish": published(runtime.port_mappings or config.port_mappings),
        "aliases": runtime.aliases_on(config.name, "runtimeConfig.aliases") or config.aliases_on(config.name, "aliases"),
    }
    fields |= {name: value for name, value in further.items() if value}
    if config.acls is not None:
        fields["acls"] = config.acls
    return fields | {"labels": {**config.labels, **{label.key: label.value for label in inner.labels}}}


def _network_demands(config: CniConfig) -> NetworkDemands:
    runtime = config.runtime_config
    return NetworkDemands(
        mtu=chosen(("runtimeConfig.mtu", runtime.mtu), ("mtu", config.mtu)),
        ports=chosen(("runtimeConfig.portMappings", runtime.port_mappings), ("portMappings", config.port_mappings)),
        masquerade=config.ip_masq,
    )


def _previous(config: Mapping[str, Any], command: str) -> Mapping[str, Any] | None:
    """The result that the chain (ADD) or the container (CHECK) has so far. DEL does not need it."""
    previous = config.get("prevResult")
    if command not in ("ADD", "CHECK") or (command == "ADD" and previous is None):
        return None
    if not isinstance(previous, dict):
        raise Invalid("prevResult", MISSING if previous is None else previous, "the result of ADD, a JSON object")
    for name in ("interfaces", "ips", "routes"):
        items = previous.get(name) or []
        if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
            raise Invalid(f"prevResult.{name}", items, "a list of JSON objects")
    if not isinstance(previous.get("dns") or {}, dict):
        raise Invalid("prevResult.dns", previous["dns"], "a JSON object")
    return previous


def _valid(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The attachments to keep. Without the key nothing may be deleted, so that is an error; null is an empty list (a runtime
    written in Go)."""
    key = next((key for key in ATTACHMENTS if key in config), None)
    if key is None:
        raise Invalid(ATTACHMENTS[0], MISSING, 'say which attachments stay: a list of {"containerID": ID, "ifname": NAME}')
    try:
        valid = model(ValidAttachments, {"valid": config[key] or ()}).valid
    except Invalid as error:
        raise error.at(error.path.replace("valid", key, 1)) from None
    return tuple((one.container, one.interface) for one in valid)
