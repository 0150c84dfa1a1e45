"""The ACL that keeps the containers of one Docker network apart (`com.docker.network.bridge.enable_icc=false`). Pure.

It stands before the network's own `vlan_out_acl` and lasts as long as Docker has the network; docs/docker.md names it.
"""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

from agent.docker.request import DockerNetworkRequest, DockerSubnet
from pipeline.protocols import IPV4, IPV6
from warren.errors import MISSING, Invalid

OPTION = "com.docker.network.bridge.enable_icc"
ALLOW, DENY = {"allow": 1}, {"allow": 0}
LINK_LOCAL = "fe80::/10"


def apart_name(docker_id: str) -> str:
    """Return the name of the ACL of a Docker network."""
    return f"docker-apart-{docker_id[:12]}"


def vlan_out_acl(request: DockerNetworkRequest) -> list[str]:
    """Return the ACLs for traffic to the containers, with the one that keeps them apart."""
    return [apart_name(request.docker_id), *request.fields.get("vlan_out_acl", ())]


def apart(request: DockerNetworkRequest, named: str | None) -> dict[str, Any]:
    """Return the draft of the ACL: what comes from an address of the network is for no container, unless it is the gateway's. Raises
    `Invalid` for a network that Docker does not make, and for one without addresses."""
    if named is not None:
        expected = f"true for network {named}, which all hosts share: give it a vlan_out_acl instead"
        raise Invalid(OPTION, MISSING, expected, problem=f"expected {expected}")
    if not request.subnets:
        raise Invalid("--subnet", MISSING, f"a range, with {OPTION}=false: the addresses say which packets are refused")
    rules: list[dict[str, Any]] = []
    for subnet in request.subnets:
        if subnet.gateway:
            rules.append(_from(subnet, str(ip_interface(subnet.gateway).ip)) | {"actions": ALLOW})
        rules.append(_from(subnet, subnet.prefix) | {"actions": DENY})
        if subnet.v6:
            rules.append(_from(subnet, LINK_LOCAL) | {"actions": DENY})
    if not request.fields.get("vlan_out_acl"):
        rules.append({"actions": ALLOW})
    return {"name": apart_name(request.docker_id), "rules": rules}


def _from(subnet: DockerSubnet, source: str) -> dict[str, Any]:
    return {"dl_type": IPV6, "ipv6_src": source} if subnet.v6 else {"dl_type": IPV4, "nw_src": source}
