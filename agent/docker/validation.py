"""Refuses options of `docker network create` that contradict each other, or that name what does not exist. Pure but for the question
whether an interface exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agent.linux.kernel import index_of
from specs.model.host import Host
from specs.paths import paths_mtu
from warren.errors import Invalid

DOVESNAP_MODE = "ovs.bridge.mode"  # under its own name a mode means what it means to dovesnap, which demands --internal
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
GATEWAY_MODE = "com.docker.network.bridge.gateway_mode_ipv4"


def mode_of(fields: dict[str, Any], given: Mapping[str, Any], internal: bool) -> dict[str, Any]:
    """Take Docker's own words for the mode out of `fields`; return the mode that they all mean, if any says one. Raises `Invalid`
    when they contradict each other."""
    mode, docker_mode, masquerade = fields.get("mode"), fields.pop("gateway_mode", None), fields.pop("masquerade", None)
    if mode is not None and docker_mode not in (None, mode):
        raise Invalid(GATEWAY_MODE, docker_mode, f"{mode}, as the other option says")
    mode = mode or docker_mode
    if masquerade is False and mode == "nat":
        raise Invalid(
            MASQUERADE,
            str(masquerade).lower(),
            "true in mode nat; in mode routed no address is translated (-o warren.mode=routed)",
        )
    if internal and DOVESNAP_MODE not in given:
        mode = "flat"  # --internal: no way outside
    return {} if mode is None else {"mode": mode}


def check_dhcp(fields: Mapping[str, Any], pool: str) -> None:
    """Raise `Invalid` for a DHCP server outside together with Warren's own addresses or router."""
    if fields.get("dhcp") and fields.get("mode", "flat") != "flat":
        raise Invalid("ovs.bridge.mode", fields["mode"], "flat, with ovs.bridge.dhcp=true: the server outside tells the router")
    if fields.get("dhcp") and pool:
        expected = "none, with ovs.bridge.dhcp=true: say --ipam-driver null, for the server outside gives the addresses"
        raise Invalid("--subnet", pool, expected)


def check_references(
    fields: Mapping[str, Any], added: Sequence[Mapping[str, Any]], has_acl: Callable[[str], bool], hosts: Iterable[Host]
) -> None:
    """Raise `Invalid` for an ACL or an interface that does not exist, and for an MTU that the tunnels of the `hosts` do not carry."""
    named = [(field, acl) for field in ("default_acl", "vlan_out_acl", "nat_acl") for acl in fields.get(field) or ()]
    named += [("add_ports", acl) for draft in added for acl in draft.get("acls") or ()]
    for field, acl in named:
        check_acl(field, acl, has_acl)
    for draft in added:
        if index_of(draft["port"]) is None:
            raise Invalid("add_ports", draft["port"], "an interface of this host")
    members = list(hosts)
    limit = paths_mtu(members) if members else None
    if limit is not None and (fields.get("mtu") or 0) > limit:
        raise Invalid("mtu", fields["mtu"], f"at most {limit}, which the tunnels leave room for")


def check_acl(field: str, acl: str, has_acl: Callable[[str], bool]) -> None:
    """Raise `Invalid` for an ACL that does not exist."""
    if not has_acl(acl):
        raise Invalid(field, acl, "the name of an ACL that exists (warren acl list)")
