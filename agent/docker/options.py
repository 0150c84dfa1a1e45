"""The options of `docker network create -o` and of `--network driver-opt=`: dovesnap's, SAND's and Warren's names for the same fields. Pure.

`docs/docker.md` lists them; a test holds that it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from specs.model.dhcp import EXTERNAL
from warren.errors import Invalid

_TRUE, _FALSE = frozenset(("1", "t", "true")), frozenset(("", "0", "f", "false"))
_MAC_PREFIX = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){0,4}\Z")
_PER_NETWORK = re.compile(r"(?P<network>[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<value>.*)\Z")


class Option(NamedTuple):
    """An option: its names, the field of the record that it sets ("" for none), how it is read, what it means."""

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


def _mode(name: str, value: str) -> str:
    if value.lower() not in ("flat", "nat", "routed"):
        raise Invalid(name, value, "flat, nat or routed")
    return value.lower()


def _acls(name: str, value: str) -> list[str]:
    """ACL[,ACL2] or NETWORK:ACL[/NETWORK2:ACL2], as dovesnap writes them."""
    found = [item.strip() for part in value.split("/") for item in part.split(",")]
    if not all(found):
        raise Invalid(name, value, "ACL[,ACL2] or NETWORK:ACL/NETWORK2:ACL2")
    return found


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


def _nothing(name: str, value: str) -> None:
    return None


def _external(name: str, value: str) -> str | None:
    return EXTERNAL if _bool(name, value) else None


def _added(name: str, value: str) -> list[dict[str, Any]]:
    """PORT[/OFPORT[/ACL[/VLAN]]],... as dovesnap writes them: drafts of endpoints behind interfaces; `native` is the VLAN."""
    found = []
    for text in value.split(",") if value else ():
        port, ofport, acl, native, *more = (*text.strip().split("/"), "", "", "")
        if not port or any(more):
            raise Invalid(name, text, "PORT[/OFPORT[/ACL[/VLAN]]], such as eno1/8/wall")
        draft: dict[str, Any] = {"port": port}
        draft |= {"ofport": _number(name, ofport)} if ofport else {}
        draft |= {"acls": [acl]} if acl else {}
        found.append(draft | ({"native": _number(name, native)} if native else {}))
    return found


def _choosing(name: str, value: str) -> list[dict[str, Any]]:
    """The same of coprocessors; a VLAN means nothing there."""
    return [{**draft, "coprocessor": {}, "native": None} for draft in _added(name, value)]


NETWORK_OPTIONS = (
    Option(("warren.network", "sand-id"), "", _text, "the Warren network, by name or id; every host names the same one"),
    Option(("warren.name", "ovs.bridge.name"), "name", _text, "the name of a network that is made (default: docker- and its id)"),
    Option(("warren.mode", "ovs.bridge.mode"), "mode", _mode, "flat, nat or routed"),
    Option(("warren.vlan", "ovs.bridge.vlan"), "vlan", _number, "kept for physical ports"),
    Option(
        ("warren.mtu", "ovs.bridge.mtu", "com.docker.network.driver.mtu"),
        "mtu",
        _number,
        "of the containers, bytes; at most what fits",
    ),
    Option(("warren.default_acl", "ovs.bridge.default_acl"), "default_acl", _acls, "ACLs of containers that name none"),
    Option(("warren.vlan_out_acl", "ovs.bridge.vlan_out_acl"), "vlan_out_acl", _acls, "ACLs over what containers receive"),
    Option(("warren.nat_acl", "ovs.bridge.nat_acl"), "nat_acl", _acls, "ACLs over what comes in by the gateway"),
    Option(
        ("warren.labels",),
        "labels_required",
        _required,
        "required: a container's port is closed until its labels are known; optional: until then it is without them",
    ),
    Option(
        ("ovs.bridge.dpid",),
        "",
        _nothing,
        "taken and not needed: all networks share the host's bridge, whose id `hosts` of a document may say",
    ),
    Option(
        ("ovs.bridge.controller",),
        "",
        _nothing,
        "taken and not needed: Warren is the controller; `hosts` of a document may name further ones",
    ),
    Option(("ovs.bridge.userspace",), "", _nothing, "taken and not needed: found out, unless `hosts` of a document say"),
    Option(("ovs.bridge.ovs_local_mac",), "", _nothing, "taken and not needed: `hosts` of a document may say the bridge's"),
    Option(("ovs.bridge.mirror_tunnel_vid",), "", _nothing, "taken; a mirror session says its own `vlan`"),
    Option(("ovs.bridge.lbport",), "", _nothing, "taken and not needed"),
    Option(
        ("warren.preallocate", "ovs.bridge.preallocate_ports"), "preallocate", _number, "endpoints that each host keeps ready"
    ),
    Option(
        ("warren.add_ports", "ovs.bridge.add_ports"),
        "add_ports",
        _added,
        "`PORT[/OFPORT[/ACL[/VLAN]]],...`: interfaces of this host that are on the network, untagged, as long as Docker has it; a VLAN that is not the network's is refused",
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
        _choosing,
        "`PORT[/OFPORT[/ACL]],...`: interfaces of this host with a coprocessor: what it sends with VLAN id 1000 + N leaves by OpenFlow port N of the network, without that tag",
    ),
)
ENDPOINT_OPTIONS = (
    Option(("warren.acl", "dovesnap.faucet.portacl"), "acls", _acls, "ACLs over what the container sends, in order"),
    Option(
        ("warren.mirror", "dovesnap.faucet.mirror"),
        "mirror",
        _bool,
        "true: the endpoint gets the label `warren.mirror`, which sessions name as a source; copies go to `WARREN_DOCKER_MIRROR` if that is set",
    ),
    Option(
        ("warren.mac_prefix", "dovesnap.faucet.mac_prefix"),
        "mac_prefix",
        _mac_prefix,
        "the first 1 to 5 bytes of its MAC",
    ),
    Option(("warren.name",), "name", _text, "the endpoint's name (default: the container's)"),
)
MIRRORED = (
    "warren.mirror"  # label of an endpoint that is mirrored; its value is the host, so that each host can have its own target
)
OWN_CHOICE = range(61_000, 65_536)  # for -P: above those that Linux takes for connections of its own (ip_local_port_range)
PREFIXES = ("warren.", "ovs.bridge.", "dovesnap.", "sand-")


def read(table: tuple[Option, ...], given: Mapping[str, Any], networks: Collection[str] | None = None) -> dict[str, Any]:
    """The fields that options set; of values NET:VALUE/NET2:VALUE the last one that is for one of `networks` (or for all).
    Raises `Invalid` for a wrong value, and for an option of Warren's or dovesnap's that there is not."""
    known = {name: option for option in table for name in option.names}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            if name.startswith(PREFIXES):
                raise Invalid(name, value, f"one of {', '.join(sorted(known))}")
            continue
        said = str(value) if networks is None else said_of(networks, option, str(value))
        found = option.read(name, said) if said is not None else None
        if found is not None and option.field:
            fields[option.field] = found
    return fields


def said_of(networks: Collection[str], option: Option, value: str) -> str | None:
    """The part of NET:VALUE/NET2:VALUE that is for these networks; None if all of it is for others."""
    found = None
    for part in value.split("/"):
        named = _PER_NETWORK.match(part)
        if option.read is _mac_prefix and _MAC_PREFIX.match(part.partition(":")[0]):
            named = None
        if named is None:
            found = part
        elif named["network"] in networks:
            found = named["value"]
    return found


def named_network(given: Mapping[str, Any]) -> str | None:
    """The Warren network that options name."""
    return next((str(given[name]) for name in NETWORK_OPTIONS[0].names if given.get(name)), None)


class Wanted(NamedTuple):
    """A port that Docker wants published: one of `candidates` of the host."""

    candidates: range
    way: dict[str, Any]


def published(options: Mapping[str, Any]) -> list[Wanted]:
    """Docker's port map. -P and a range of the host's ports leave the choice to the driver."""
    found = []
    for entry in options.get("com.docker.network.portmap") or ():
        host, last = int(entry.get("HostPort") or 0), int(entry.get("HostPortEnd") or 0)
        way = {"port": int(entry["Port"]), "proto": {6: "tcp", 17: "udp", 132: "sctp"}[int(entry["Proto"])]}
        way |= {"host_ip": entry["HostIP"]} if entry.get("HostIP") not in (None, "", "0.0.0.0", "::") else {}
        found.append(Wanted(range(host, max(host, last) + 1) if host else OWN_CHOICE, way))
    return found
