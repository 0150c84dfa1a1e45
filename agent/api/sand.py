"""SAND's names <-> Warren's records: requests, and answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from agent.endpoints.request import RequestBody, cidr
from specs.model.base import Address, Flag, Mac
from specs.model.derived import veth_mac
from specs.model.dhcp import DhcpFields
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network, NetworkFields

WAIT_LIMIT_S = 50.0
NEVER = "0001-01-01T00:00:00Z"  # Go's time that is not set: its clients do not read an empty text
DEFAULT_RANGE = IPv4Network("10.0.0.0/24")  # SAND's, when a request names no range at all


class NetworkCreate(NetworkFields, RequestBody):
    """POST /networks: SAND's fields, and Warren's: VNI, IPv6, MTU, labels. `ip_range: null` makes a network without IPv4."""

    def values(self, network_id: str) -> dict[str, Any]:
        """The fields of the new record: SAND's default range, and the first address of a range as its gateway; null means
        none."""
        stated = self.model_fields_set
        values = self.model_dump(exclude={"id"})
        if not {"ip_range", "ipv6_range"} & stated and not self.external:
            values["ip_range"] = DEFAULT_RANGE
        for gateway, range_field in (("gateway", "ip_range"), ("ipv6_gateway", "ipv6_range")):
            if gateway not in stated and self.admin is None:
                values[gateway] = first_address(values[range_field])
        values["name"] = self.name or default_name(network_id)
        return values


def default_name(network_id: str) -> str:
    """The name that SAND gives to a network without one."""
    return f"net-sc-{network_id}"


def first_address(network: IPv4Network | IPv6Network | None) -> Any:
    """The first host address of a range, with the prefix length."""
    return None if network is None else ip_interface(f"{network.network_address + 1}/{network.prefixlen}")


class ApplyBody(RequestBody):
    """POST /apply: a YAML document; `prune` deletes what its sections do not list, `dry_run` changes nothing, `wait_s` is
    how many seconds to wait at most until the hosts have caught up, `progress` reports how far the work is."""

    document: str
    prune: Flag = False
    dry_run: Flag = False
    progress: Flag = False
    wait_s: float = Field(default=0.0, ge=0, le=WAIT_LIMIT_S)


class TraceBody(RequestBody):
    """POST /trace: a packet between two endpoints (name or id); `src_address`, `src_mac` and `dst_address` replace their own."""

    src: str
    dst: str
    proto: str = "icmp"
    port: int | None = None
    src_address: Address | None = None
    src_mac: Mac | None = None
    dst_address: Address | None = None


class HostTraceBody(RequestBody):
    """POST /hosts/{name}/trace: `flow` as ofproto/trace takes it, such as `in_port=3,icmp,...`. With `enters` (an endpoint's
    id, or `tunnel`), the in_port is replaced by that port."""

    flow: str
    enters: str | None = None


def network_out(network: Network) -> dict[str, Any]:
    """SAND's Network, with Warren's additions: `name` is the one that SAND's client gave, `unique_name` the one that finds it. There is no namespace per network: `ns_handle_path` is empty."""
    data = network.data()
    return {
        "id": network.id,
        "created_at": network.created_at or NEVER,
        "name": network.title or network.name,
        "type": network.type,
        "ns_handle_path": "",
        "vxlan_vni": network.vxlan_vni,
        "ip_range": data.get("ip_range", ""),
        "gateway": data.get("gateway", ""),
        "unique_name": network.name,
        "tenant": network.tenant or "default",
        "profile": network.profile or "default",
        "ipv6_range": data.get("ipv6_range", ""),
        "ipv6_gateway": data.get("ipv6_gateway", ""),
        "mtu": network.mtu,
        "vlan": network.vlan,
        "vlan_transparent": network.vlan_transparent,
        "mode": network.mode,
        "default_acl": list(network.default_acl),
        "vlan_out_acl": list(network.vlan_out_acl),
        "nat_acl": list(network.nat_acl),
        "ct_limit": network.ct_limit,
        "host_access": network.host_access,
        "preallocate": network.preallocate,
        **{name: data.get(name) for name in DhcpFields.model_fields},
        "dns_server": network.dns_server,
        "labels_required": network.labels_required,
        "labels": network.labels,
        "admin": data.get("admin"),
    }


def endpoint_out(
    endpoint: Endpoint, networks: Mapping[str, Network], hosts: Mapping[str, Host], state: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """SAND's Endpoint, with Warren's additions. `state` is the report of its host's controller."""
    network, host = networks.get(endpoint.network_id), hosts.get(endpoint.host)
    return {
        "id": endpoint.id,
        "network_id": endpoint.network_id,
        "hostname": endpoint.host,
        "host_ip": str(host.vtep) if host else "",
        "api_hostname": api_hostname(host) or endpoint.host,
        "created_at": endpoint.created_at or NEVER,
        "target_netns_path": endpoint.namespace or "",
        "overlay_veth_name": endpoint.port or endpoint.veth,
        "overlay_veth_mac": veth_mac(endpoint.veth),
        "target_veth_name": endpoint.interface or "",
        "target_veth_mac": endpoint.mac_address if endpoint.port is None else "",
        "target_veth_ip": _ipv4(endpoint, network),
        "leased": endpoint.leased_prefix is not None,
        "active": endpoint.active,
        "target_veth_ipv6": cidr(endpoint.ipv6_address, network.ipv6_range if network else None),
        "name": endpoint.name or "",
        "network": network.name if network else "",
        "ofport": endpoint.ofport,
        "port": endpoint.port,
        "device": endpoint.device,
        "iface_id": endpoint.iface_id,
        "parent": endpoint.parent,
        "machine": endpoint.machine,
        "keep_netns": endpoint.keep_netns,
        "vlan": endpoint.vlan,
        "coprocessor": endpoint.coprocessor.model_dump() if endpoint.coprocessor else None,
        "labels": endpoint.labels,
        "spare": endpoint.spare,
        "acls": list(endpoint.acls) if endpoint.acls is not None else None,
        "publish": [p.model_dump(mode="json", exclude_none=True) for p in endpoint.publish],
        "allowed": [entry.data() for entry in endpoint.allowed],
        "aliases": list(endpoint.aliases),
        "state": (state or {}).get("state", ""),
        "reason": (state or {}).get("reason", "") or "",
    }


def _ipv4(endpoint: Endpoint, network: Network | None) -> str:
    if endpoint.leased_prefix is not None:
        return f"{endpoint.ipv4_address}/{endpoint.leased_prefix}"
    return cidr(endpoint.ipv4_address, network.ip_range if network else None)


def host_out(host: Host) -> dict[str, Any]:
    """A host as Warren's own routes show it."""
    return {"id": host.name, **host.data()}


def api_hostname(host: Host | None) -> str | None:
    """The name or address of a host's agent; None when its URL has none (a unix socket)."""
    return urlsplit(host.api).hostname if host and host.api else None
