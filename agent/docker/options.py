"""The options of `docker network create -o` and of `--network driver-opt=`: the names that dovesnap, SAND and Warren give to
the same fields. Pure.

`docs/docker.md` lists them, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Address
from typing import Any, NamedTuple

from specs.model.allowed import parse_allowed
from specs.model.dhcp import EXTERNAL
from specs.model.endpoint import ALIASES_LIMIT
from specs.model.names import is_name
from warren.errors import Invalid

_TRUE, _FALSE = frozenset(("1", "t", "true")), frozenset(("", "0", "f", "false"))
_MAC_PREFIX = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){0,4}\Z")
_MAC = re.compile(r"[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}\Z")
_DPID = re.compile(r"0x(?!0+\Z)[0-9A-Fa-f]{1,16}\Z")
_CONTROLLERS = re.compile(r"(tcp|ssl):[^,\s]+(,(tcp|ssl):[^,\s]+)*\Z")
_IFACE_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,9}\Z")
_PER_NETWORK = re.compile(r"(?P<network>[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<value>.*)\Z")


class Option(NamedTuple):
    """An option: its names, the field of the record that it sets ("" for none), its parser, and its meaning."""

    names: tuple[str, ...]
    field: str
    read: Callable[[str, str], Any]
    meaning: str


def _text(name: str, value: str) -> str:
    return value


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise Invalid(name, value, "a number")
    return int(value)


def _choice(*choices: str) -> Callable[[str, str], str]:
    """Return a parser that accepts these words, in upper case as well."""

    def read(name: str, value: str) -> str:
        if value.lower() not in choices:
            raise Invalid(name, value, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return value.lower()

    return read


def _acls(name: str, value: str) -> list[str]:
    """Parse ACL[,ACL2] or NETWORK:ACL[/NETWORK2:ACL2], as dovesnap writes them."""
    names = [item.strip() for part in value.split("/") for item in part.split(",")]
    if not all(names):
        raise Invalid(name, value, "ACL[,ACL2] or NETWORK:ACL/NETWORK2:ACL2")
    return names


def _names(name: str, value: str) -> list[str]:
    """Parse NAME[,NAME2]."""
    names = [item.strip() for item in value.split(",")]
    if len(names) > ALIASES_LIMIT or not all(map(is_name, names)):
        raise Invalid(name, value, f"NAME[,NAME2], at most {ALIASES_LIMIT} names of letters, digits, '.', '_' or '-'")
    return list(dict.fromkeys(names))


def _bool(name: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise Invalid(name, value, "true or false")
    return value.lower() in _TRUE


def _required(name: str, value: str) -> bool:
    if value.lower() not in ("required", "optional"):
        raise Invalid(name, value, "required or optional")
    return value.lower() == "required"


def _mac_prefix(name: str, value: str) -> str:
    if not _MAC_PREFIX.match(value) or int(value[:2], 16) & 1:
        raise Invalid(name, value, "the first 1 to 5 bytes of a unicast MAC address, such as 0e:99")
    return value.lower()


def _ignored(check: Callable[[str, str], Any]) -> Callable[[str, str], None]:
    """Return a parser that refuses a wrong value and sets no field."""

    def read(name: str, value: str) -> None:
        check(name, value)

    return read


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str, str], str]:
    """Return a parser that accepts what a pattern matches."""

    def read(name: str, value: str) -> str:
        if not pattern.match(value):
            raise Invalid(name, value, expected)
        return value

    return read


def _always(right: bool, instead: str) -> Callable[[str, str], None]:
    """Return a parser for a switch that Warren has in one position alone."""

    def read(name: str, value: str) -> None:
        if _bool(name, value) != right:
            raise Invalid(name, value, f"{str(right).lower()}: {instead}")

    return read


def _ipv4(name: str, value: str) -> str | None:
    try:
        address = IPv4Address(value)
    except AddressValueError:
        raise Invalid(name, value, "an IPv4 address of this host") from None
    return None if address.is_unspecified else str(address)


def _external(name: str, value: str) -> str | None:
    return EXTERNAL if _bool(name, value) else None


def _added(name: str, value: str) -> list[dict[str, Any]]:
    """Parse PORT[/OFPORT[/ACL[/VLAN]]],... as dovesnap writes them. Returns drafts of endpoints behind interfaces; `native`
    is the VLAN."""
    drafts = []
    for text in value.split(",") if value else ():
        port, ofport, acl, native, *more = (*text.strip().split("/"), "", "", "")
        if not port or any(more):
            raise Invalid(name, text, "PORT[/OFPORT[/ACL[/VLAN]]], such as eno1/8/wall")
        draft: dict[str, Any] = {"port": port}
        draft |= {"ofport": _number(name, ofport)} if ofport else {}
        draft |= {"acls": [acl]} if acl else {}
        drafts.append(draft | ({"native": _number(name, native)} if native else {}))
    return drafts


def _allowed(name: str, value: str) -> list[dict[str, str]]:
    """Parse ADDRESS[,MAC] ADDRESS[,MAC] ..."""
    return [entry.data() for entry in parse_allowed(value.split(), name)]


def _coprocessors(name: str, value: str) -> list[dict[str, Any]]:
    """Parse the same syntax for coprocessors, where a VLAN means nothing."""
    return [{**draft, "coprocessor": {}, "native": None} for draft in _added(name, value)]


NETWORK_OPTIONS = (
    Option(("warren.network", "sand-id"), "", _text, "the Warren network, by name or id; every host names the same one"),
    Option(
        ("warren.name", "ovs.bridge.name"),
        "name",
        _text,
        "the name of the new Warren network (default: that of Docker's network)",
    ),
    Option(("warren.mode", "ovs.bridge.mode"), "mode", _choice("flat", "nat", "routed"), "flat, nat or routed"),
    Option(("warren.vlan", "ovs.bridge.vlan"), "vlan", _number, "the VLAN of the network on physical ports"),
    Option(
        ("warren.mtu", "ovs.bridge.mtu", "com.docker.network.driver.mtu"),
        "mtu",
        _number,
        "MTU of the containers in bytes; at most what the tunnels leave room for",
    ),
    Option(("warren.default_acl", "ovs.bridge.default_acl"), "default_acl", _acls, "ACLs of containers that name none"),
    Option(("warren.vlan_out_acl", "ovs.bridge.vlan_out_acl"), "vlan_out_acl", _acls, "ACLs for traffic to the containers"),
    Option(("warren.nat_acl", "ovs.bridge.nat_acl"), "nat_acl", _acls, "ACLs for traffic that comes in through the gateway"),
    Option(
        ("warren.host_access",),
        "host_access",
        _choice("none", "dns", "all"),
        "what containers reach of the hosts and etcd besides published ports: none (default), dns or all",
    ),
    Option(
        ("warren.dns_server",),
        "dns_server",
        _bool,
        "true: the gateway's address answers for the names of the network's endpoints ([dns.md](dns.md)); tell containers of it by `--dns`",
    ),
    Option(
        ("warren.labels",),
        "labels_required",
        _required,
        "required: a container's port stays closed until its labels are known; optional: until then it has no labels",
    ),
    Option(
        ("ovs.bridge.dpid",),
        "",
        _ignored(_matching(_DPID, "a datapath id such as 0x1, not 0")),
        "ignored: all networks share the host's bridge; `hosts` in a document sets its dpid",
    ),
    Option(
        ("ovs.bridge.controller",),
        "",
        _ignored(_matching(_CONTROLLERS, "tcp:ADDRESS:PORT, several with commas")),
        "ignored: Warren is the controller; `hosts` in a document adds others",
    ),
    Option(
        ("ovs.bridge.userspace",),
        "",
        _ignored(_bool),
        "ignored: Warren detects the datapath type; `hosts` in a document sets it",
    ),
    Option(
        ("warren.local_mac", "ovs.bridge.ovs_local_mac"),
        "local_mac",
        lambda name, value: _matching(_MAC, "a unicast MAC address")(name, value).lower() if value else None,
        "the MAC of this host's bridge, which all networks share: the first one stays; `hosts` in a document takes precedence",
    ),
    Option(("ovs.bridge.mirror_tunnel_vid",), "", _ignored(_number), "ignored: a mirror session has a `vlan` of its own"),
    Option(("ovs.bridge.lbport",), "", _ignored(_number), "ignored: Warren needs no port to mirror"),
    Option(("ovs.bridge.bind_interface",), "", _ignored(_text), "ignored, as dovesnap does"),
    Option(
        ("warren.preallocate", "ovs.bridge.preallocate_ports"),
        "preallocate",
        _number,
        "number of endpoints that each host plugs in ahead of time",
    ),
    Option(
        ("warren.add_ports", "ovs.bridge.add_ports"),
        "add_ports",
        _added,
        "`PORT[/OFPORT[/ACL[/VLAN]]],...`: interfaces of this host to put on the network, untagged, for as long as Docker has it; those with another VLAN than the network's are apart from it, with each other",
    ),
    Option(
        ("warren.dhcp", "ovs.bridge.dhcp"),
        "dhcp",
        _external,
        "true: a DHCP server behind an interface of the network gives the addresses ([dhcp.md](dhcp.md)); with --ipam-driver null, in mode flat",
    ),
    Option(
        ("warren.add_copro_ports", "ovs.bridge.add_copro_ports"),
        "add_copro_ports",
        _coprocessors,
        "`PORT[/OFPORT[/ACL]],...`: interfaces of this host with a coprocessor: a packet that it sends with VLAN id 1000 + N leaves through OpenFlow port N of the network, without that tag",
    ),
    Option(
        ("com.docker.network.bridge.host_binding_ipv4",),
        "host_ip",
        _ipv4,
        "the address of this host at which ports are published that name none; 0.0.0.0 is all",
    ),
    Option(
        ("com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"),
        "gateway_mode",
        _choice("nat", "routed"),
        "nat or routed: the same as `warren.mode`",
    ),
    Option(
        ("com.docker.network.bridge.enable_ip_masquerade",),
        "masquerade",
        _bool,
        "false: not with mode nat; in mode routed no address is translated",
    ),
    Option(
        ("com.docker.network.bridge.enable_icc",),
        "apart",
        lambda name, value: not _bool(name, value) or None,
        "false: containers of the network do not reach each other by IP, only its gateway and what is outside; of a network that this one makes",
    ),
    Option(
        ("com.docker.network.container_iface_prefix",),
        "prefix",
        _matching(_IFACE_PREFIX, "the beginning of an interface's name, at most 10 characters"),
        "how the containers' interfaces are named: this and a number (default: eth)",
    ),
    Option(("com.docker.network.bridge.name",), "", _ignored(_text), "ignored: Warren makes no Linux bridge"),
    Option(
        ("com.docker.network.bridge.default_bridge",),
        "",
        _always(False, "a network of Warren's is not Docker's default bridge"),
        "false; true is refused",
    ),
    Option(
        ("com.docker.network.bridge.inhibit_ipv4",),
        "",
        _always(False, "a network without a gateway is one in mode flat (-o warren.mode=flat)"),
        "false; true is refused",
    ),
)
ENDPOINT_OPTIONS = (
    Option(("warren.acl", "dovesnap.faucet.portacl"), "acls", _acls, "ACLs for traffic from the container, in order"),
    Option(
        ("warren.mirror", "dovesnap.faucet.mirror"),
        "mirror",
        _bool,
        "true: the endpoint gets the label `warren.mirror`, which mirror sessions can select; the copies go to `WARREN_DOCKER_MIRROR` if that is set",
    ),
    Option(
        ("warren.mac_prefix", "dovesnap.faucet.mac_prefix"),
        "mac_prefix",
        _mac_prefix,
        "the first 1 to 5 bytes of the container's MAC",
    ),
    Option(("warren.name",), "name", _text, "the endpoint's name (default: the container's)"),
    Option(
        ("warren.aliases",),
        "aliases",
        _names,
        "`NAME[,NAME2]`: further names, for a network with `warren.dns_server`; other endpoints may share them",
    ),
    Option(
        ("warren.allowed",),
        "allowed",
        _allowed,
        "`ADDRESS[,MAC]`, several with spaces between them: addresses and ranges that the container may have besides its own ([specs.md](specs.md)); on all networks of a container, if it is a label",
    ),
)
MIRRORED = "warren.mirror"  # label of a mirrored endpoint; its value is the host, because each host has a target of its own
OWN_CHOICE = range(61_000, 65_536)  # for -P: above the ports that Linux uses for its own connections (ip_local_port_range)
_ENGINES_OWN = "com.docker.network."  # options of an endpoint that the engine adds itself
_MEANT_FOR_US = re.compile(r"(warren|dovesnap|ovs[._-]bridge)(_|\b)", re.IGNORECASE)  # labels of a container
_COMPONENT = "dovesnap.namespace"  # dovesnap's label of its own containers, no option


def read(table: tuple[Option, ...], given: Mapping[str, Any], networks: Collection[str] | None = None) -> dict[str, Any]:
    """Return the fields that options set. Of a value NET:VALUE/NET2:VALUE, the last one for one of `networks` (or for all)
    counts.

    Raises `Invalid` for a wrong value, for an unknown option, and for two options that contradict each other.
    """
    by_name = {name: option for option in table for name in option.names}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        option = by_name.get(name)
        if option is None:
            if table is ENDPOINT_OPTIONS and name.startswith(_ENGINES_OWN):
                continue
            closest = get_close_matches(name.lower(), sorted(by_name), 3, 0.0)
            raise Invalid(name, value, f"an option that exists, such as {', '.join(closest)} (docs/docker.md lists all)")
        part = str(value) if networks is None else value_for(networks, option, str(value))
        parsed = option.read(name, part) if part is not None else None
        if parsed is not None and option.field:
            if fields.get(option.field, parsed) != parsed:
                other = next(n for n in option.names if n in given and n != name)
                raise Invalid(name, value, f"the same as {other}, or one of the two alone")
            fields[option.field] = parsed
    return fields


def options_among(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a container that are options, also those that are written wrongly: one that was meant as a policy must not
    leave the port open."""
    return {name: value for name, value in labels.items() if _MEANT_FOR_US.match(name) and name != _COMPONENT}


def value_for(networks: Collection[str], option: Option, value: str) -> str | None:
    """Return the part of NET:VALUE/NET2:VALUE for these networks, or None when all of it is for others."""
    if option.read is _allowed:  # addresses and ranges have colons and slashes of their own
        return value
    chosen = None
    for part in value.split("/"):
        named = _PER_NETWORK.match(part)
        if option.read is _mac_prefix and _MAC_PREFIX.match(part.partition(":")[0]):
            named = None
        if named is None:
            chosen = part
        elif named["network"] in networks:
            chosen = named["value"]
    return chosen


def named_network(given: Mapping[str, Any]) -> str | None:
    """Return the Warren network that options name."""
    return next((str(given[name]) for name in NETWORK_OPTIONS[0].names if given.get(name)), None)


class PortRequest(NamedTuple):
    """A port that Docker wants published, on one of the host's `candidates`."""

    candidates: range
    way: dict[str, Any]


def published(options: Mapping[str, Any], host_ip: str | None = None) -> list[PortRequest]:
    """Parse Docker's port map. With -P or a range of host ports the driver chooses. `host_ip` is the address for ports that name none."""
    requests = []
    for entry in options.get("com.docker.network.portmap") or ():
        host, last = int(entry.get("HostPort") or 0), int(entry.get("HostPortEnd") or 0)
        way = {"port": int(entry["Port"]), "proto": {6: "tcp", 17: "udp", 132: "sctp"}[int(entry["Proto"])]}
        address = entry.get("HostIP") or host_ip
        way |= {"host_ip": address} if address not in (None, "0.0.0.0", "::") else {}
        requests.append(PortRequest(range(host, max(host, last) + 1) if host else OWN_CHOICE, way))
    return requests
