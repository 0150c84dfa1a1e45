"""The options of `docker network create -o` and of `--network driver-opt=`: dovesnap's, SAND's and Warren's names for the same fields. Pure.

`docs/docker.md` lists them; a test holds that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from specs.errors import Invalid


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


def _nothing(name: str, value: str) -> None:
    return None


def _false(name: str, value: str) -> None:
    if value.lower() not in ("", "0", "f", "false"):
        raise Invalid(name, value, "false: Warren does not have it (yet)")


def _zero(name: str, value: str) -> None:
    if value not in ("", "0"):
        raise Invalid(name, value, "0: Warren does not have it (yet)")


def _empty(name: str, value: str) -> None:
    if value:
        raise Invalid(name, value, "nothing: Warren does not have it (yet)")


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
    Option(("ovs.bridge.dpid",), "", _nothing, "taken and not needed: each host's bridge has its own"),
    Option(("ovs.bridge.controller",), "", _nothing, "taken and not needed: Warren is the controller"),
    Option(("ovs.bridge.userspace",), "", _nothing, "taken and not needed: found out"),
    Option(("ovs.bridge.ovs_local_mac",), "", _nothing, "taken and not needed"),
    Option(("ovs.bridge.mirror_tunnel_vid",), "", _nothing, "taken; a mirror session says its own `vlan`"),
    Option(("ovs.bridge.lbport",), "", _nothing, "taken and not needed"),
    Option(("ovs.bridge.preallocate_ports",), "", _zero, "not there: more than 0 is refused"),
    Option(("ovs.bridge.dhcp",), "", _false, "not there: true is refused"),
    Option(("ovs.bridge.add_ports",), "", _empty, "not there: refused"),
    Option(("ovs.bridge.add_copro_ports",), "", _empty, "not there: refused"),
)
ENDPOINT_OPTIONS = (
    Option(("warren.acl", "dovesnap.faucet.portacl"), "acls", _acls, "ACLs over what the container sends, in order"),
    Option(("warren.name",), "name", _text, "the endpoint's name (default: the container's)"),
)
PREFIXES = ("warren.", "ovs.bridge.", "dovesnap.", "sand-")


def read(table: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options set. Raises `Invalid` for a wrong value, and for an option of Warren's or dovesnap's that there is not."""
    known = {name: option for option in table for name in option.names}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            if name.startswith(PREFIXES):
                raise Invalid(name, value, f"one of {', '.join(sorted(known))}")
            continue
        found = option.read(name, str(value))
        if found is not None and option.field:
            fields[option.field] = found
    return fields


def named_network(given: Mapping[str, Any]) -> str | None:
    """The Warren network that options name."""
    return next((str(given[name]) for name in NETWORK_OPTIONS[0].names if given.get(name)), None)


def published(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Docker's port map as `publish` has it. Raises `Invalid` for a port that Docker leaves to the driver to find."""
    found = []
    for entry in options.get("com.docker.network.portmap") or ():
        host, last = int(entry.get("HostPort") or 0), int(entry.get("HostPortEnd") or 0)
        if not host or last > host:
            raise Invalid(
                "-p", str(entry.get("Port")), "HOST_PORT:PORT, one port of the host for each (not -P, no range to choose from)"
            )
        proto = {6: "tcp", 17: "udp", 132: "sctp"}[int(entry["Proto"])]
        way = {"host_port": host, "port": int(entry["Port"]), "proto": proto}
        found.append(way | ({"host_ip": entry["HostIP"]} if entry.get("HostIP") not in (None, "", "0.0.0.0", "::") else {}))
    return found
