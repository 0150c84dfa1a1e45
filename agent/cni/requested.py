"""What a runtime or a configuration requests for one container, in CNI's words: the conventions' capabilities
(https://www.cni.dev/docs/conventions/), parsed to the fields of an endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from specs.model.base import Mac, Mtu
from specs.model.endpoint import Aliases
from specs.model.publish import Publish
from specs.model.service import PortNumber
from specs.model.validation import invalid
from warren.errors import Invalid


def model(kind: type[Any], data: Any) -> Any:
    """Validate data against a pydantic model. Raises `Invalid`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None


def _address(value: Any) -> Any:
    """CNI's addresses come with and without a prefix length; the network's own length counts."""
    try:
        return ip_interface(value if isinstance(value, str) else "").ip
    except ValueError:
        raise ValueError("an address such as 10.0.0.5 or fd00:1::5") from None


def nothing(value: Any) -> Any:
    """null counts as not set: runtimes are written in Go."""
    return () if value is None else value


def _host_ip(value: Any) -> Any:
    """An empty address and the unspecified one are no restriction."""
    if value is None or value == "":
        return None
    try:
        parsed = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("an address of this host, such as 192.0.2.1") from None
    return None if parsed.is_unspecified else parsed


def unset(value: Any) -> Any:
    """Empty text, 0 and null count as not set."""
    return None if value in ("", 0) and value is not False else value


def _text(value: str) -> str:
    if not value or not value.isprintable() or len(value.split()) != 1:
        raise ValueError("one word")
    return value


HostIp = Annotated[IPv4Address | IPv6Address | None, BeforeValidator(_host_ip)]
CniAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
_Text = Annotated[str, AfterValidator(_text)]
_Texts = Annotated[tuple[_Text, ...], BeforeValidator(nothing)]


class Lenient(BaseModel):
    """A part of a configuration: other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class PortMapping(Lenient):
    """One entry of the capability `portMappings`."""

    host_port: PortNumber = Field(alias="hostPort")
    container_port: PortNumber = Field(alias="containerPort")
    protocol: Annotated[str, AfterValidator(str.lower), Field(pattern="^(?i:tcp|udp|sctp)$")] = "tcp"
    host_ip: HostIp = Field(default=None, alias="hostIP")


class Dns(Lenient):
    """What a container's resolver gets: the specification's `dns`; the capability calls two of the keys otherwise."""

    nameservers: Annotated[tuple[CniAddress, ...], BeforeValidator(nothing)] = ()
    domain: Annotated[_Text | None, BeforeValidator(unset)] = None
    search: _Texts = ()
    options: _Texts = ()

    def result(self) -> dict[str, Any]:
        """As a CNI result has it: without what is not set."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value}


class CapabilityDns(Lenient):
    """`dns` of runtimeConfig."""

    servers: Annotated[tuple[CniAddress, ...], BeforeValidator(nothing)] = ()
    searches: _Texts = ()
    options: _Texts = ()

    def result(self) -> dict[str, Any]:
        """As a CNI result has it."""
        names = {"servers": "nameservers", "searches": "search"}
        return {names.get(name, name): value for name, value in self.model_dump(mode="json").items() if value}


class Requested(Lenient):
    """The keys that a configuration and its `runtimeConfig` share. `aliases` is a list or, as podman has it, a mapping from
    networks to lists."""

    port_mappings: Annotated[tuple[PortMapping, ...], BeforeValidator(nothing)] = Field(default=(), alias="portMappings")
    mac: Annotated[Mac | None, BeforeValidator(unset)] = None
    ips: Annotated[tuple[CniAddress, ...], BeforeValidator(nothing)] = ()
    aliases: Any = None
    mtu: Annotated[Mtu | None, BeforeValidator(unset)] = None
    bandwidth: Any = None

    def aliases_on(self, network: str, path: str) -> tuple[str, ...]:
        """The further names on a network (the list's `name`). `path` leads to them. Raises `Invalid`."""
        listed = self.aliases
        if isinstance(listed, dict):
            listed, path = listed.get(network), f"{path}.{network}"
        try:
            names: tuple[str, ...] = model(_Names, {"names": nothing(listed)}).names
        except Invalid as error:
            raise error.at(error.path.replace("names", path, 1)) from None
        return names


class _Names(Lenient):
    names: Aliases


class RuntimeConfig(Requested):
    """The fields that the runtime fills in, for the capabilities in the configuration."""

    dns: Annotated[CapabilityDns, BeforeValidator(lambda value: value or {})] = CapabilityDns()
    ip_ranges: Any = Field(default=None, alias="ipRanges")
    infiniband_guid: Any = Field(default=None, alias="infinibandGUID")
    device_id: Any = Field(default=None, alias="deviceID")


class Arguments(Lenient):
    """The words of CNI_ARGS and `args.cni` that are about addresses."""

    ips: Annotated[tuple[CniAddress, ...], BeforeValidator(nothing)] = ()
    mac: Annotated[Mac | None, BeforeValidator(unset)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A value and the path that it comes from."""

    path: str
    value: Any


def chosen(*choices: tuple[str, Any]) -> Choice | None:
    """The first of (path, value) that is set."""
    return next((Choice(path=path, value=value) for path, value in choices if value), None)


def addresses(choice: Choice | None) -> dict[str, str]:
    """The fields of an endpoint for its addresses. Raises `Invalid`."""
    fields: dict[str, str] = {}
    for address in choice.value if choice is not None else ():
        field = f"ipv{address.version}_address"
        if choice is not None and field in fields:
            raise Invalid(choice.path, ", ".join(map(str, choice.value)), "at most one IPv4 and one IPv6 address")
        fields[field] = str(address)
    return fields


def published(mappings: Sequence[PortMapping]) -> tuple[Publish, ...]:
    """Published ports, each once: runtimes list a port for each address family."""
    ways = [
        Publish.model_validate({"host_port": m.host_port, "port": m.container_port, "proto": m.protocol, "host_ip": m.host_ip})
        for m in mappings
    ]
    return tuple(dict.fromkeys(ways))


_REFUSED = {
    "bandwidth": "nothing: Warren limits rates by a rule's meter (docs/acl.md), which `acls` names",
    "ipRanges": "nothing: addresses are of the network's ranges; `ips` selects some",
    "infinibandGUID": "nothing: Warren's interfaces are Ethernet",
    "deviceID": "nothing: Warren makes the interface itself",
    "ipam": "nothing: Warren assigns the addresses",
}


def refuse_unsupported(values: Mapping[str, Any]) -> None:
    """Refuse what Warren does not carry out, by path. Values that request nothing (null, {}, rates of 0) are no requests.
    Raises `Invalid`."""
    for path, value in values.items():
        if any(value.values()) if isinstance(value, dict) else value:
            raise Invalid(path, value, _REFUSED[path.rpartition(".")[2]])
