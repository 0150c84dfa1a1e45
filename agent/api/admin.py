"""The admin overlay over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.core import Core
from agent.endpoints.request import RequestBody
from agent.status import parse_json
from agent.switch import read_snapshot
from intent.sites import endpoint_mtu
from specs import keys
from specs.model.admin import ADMIN_INTERFACE, ADMIN_NAME, ADMIN_VLAN, ADMIN_VNI, AdminOverlay, HostAddresses
from specs.model.base import AclNames, Mtu, Name, Vlan, Vni, decode, restated
from specs.model.endpoint import Endpoint
from specs.model.network import Network, Range4, Range6
from specs.model.profile import DEFAULT, ProfileName
from specs.snapshot import Snapshot
from warren.errors import Conflict, NotFound


class AdminOverlayBody(RequestBody):
    """POST /admin-overlay: `addresses` are those of hosts that shall not have just any free one. Without `vxlan_vni` it is 2, or a free one."""

    ip_range: Range4 | None = None
    ipv6_range: Range6 | None = None
    name: Name = ADMIN_NAME
    vxlan_vni: Vni | None = None
    vlan: Vlan = ADMIN_VLAN
    mtu: Mtu | None = None
    profile: ProfileName = None
    default_acl: AclNames = ()
    addresses: dict[Name, HostAddresses] = {}


class AdminOverlayUpdate(RequestBody):
    """POST /admin-overlay/update: what is not stated stays, null takes a value away. A host whose `addresses` are null may have any."""

    addresses: dict[Name, HostAddresses | None] = {}
    vlan: Vlan | None = None
    mtu: Mtu | None = None
    default_acl: AclNames | None = None


def router(core: Core) -> APIRouter:
    """The routes of the admin overlay."""
    router = APIRouter(tags=["Warren"])

    @router.get("/admin-overlay")
    def show() -> dict[str, Any]:
        """The admin overlay, with the address of each host and whether it is up."""
        state = read_snapshot(core.store)
        return {"admin_overlay": _shown(core, _overlay(state), state)}

    @router.post("/admin-overlay", status_code=201)
    def create(body: AdminOverlayBody) -> dict[str, Any]:
        """Create the admin overlay: every host gets an address of it, in its own namespace."""
        values = body.model_dump(mode="json", exclude={"addresses"}, exclude_none=True)
        values["admin"] = {"addresses": body.addresses}
        try:
            network, _ = core.repository.create_network({"vxlan_vni": ADMIN_VNI, **values})
        except Conflict as error:
            if body.vxlan_vni is not None or error.field != "vxlan_vni":
                raise
            network, _ = core.repository.create_network(
                values
            )  # networks without a VNI of their own take the lowest, so 2 is seldom free
        return {"admin_overlay": _shown(core, network, read_snapshot(core.store))}

    @router.post("/admin-overlay/update")
    def update(body: AdminOverlayUpdate) -> dict[str, Any]:
        """Change the admin overlay. Hosts whose addresses change get new ones."""
        old = core.repository.network(_overlay(read_snapshot(core.store)).id)
        assert old.admin is not None
        addresses = {host: value for host, value in (old.admin.addresses | body.addresses).items() if value is not None}
        stated = body.model_dump(mode="json", exclude={"addresses"}, exclude_unset=True)
        changed = restated(old.data(), {**stated, "admin": {"addresses": addresses}})
        core.repository.update_network(decode(Network, changed, "network"))
        state = read_snapshot(core.store)
        return {"admin_overlay": _shown(core, _overlay(state), state)}

    @router.delete("/admin-overlay", status_code=204)
    def delete() -> Response:
        """Delete the admin overlay: no host has an address of it any more."""
        core.repository.delete_network(_overlay(read_snapshot(core.store)).id)
        return Response(status_code=204)

    return router


def _overlay(state: Snapshot) -> Network:
    """The admin overlay. Raises `NotFound`."""
    for network in state.networks.values():
        if network.admin is not None:
            return network
    raise NotFound("admin overlay", ADMIN_NAME)


def _shown(core: Core, network: Network, state: Snapshot) -> dict[str, Any]:
    """The admin overlay with a row for each host. Its endpoints are asked of etcd: this host may not have read them yet."""
    endpoints = {endpoint.host: endpoint for endpoint in core.repository.endpoints(network.id)}
    reports = {entry.key.rpartition("/")[2]: parse_json(entry) for entry in core.store.list(keys.STATUS_ENDPOINTS)[1]}
    admin = network.admin or AdminOverlay()
    data = network.data()
    return {
        "id": network.id,
        **{name: data.get(name) for name in ("name", "ip_range", "ipv6_range", "vxlan_vni", "vlan")},
        "mtu": endpoint_mtu(state, network),
        "profile": network.profile or DEFAULT,
        "interface": ADMIN_INTERFACE,
        "default_acl": list(network.default_acl),
        "addresses": {host: [str(address) for address in addresses] for host, addresses in sorted(admin.addresses.items())},
        "hosts": [_host(name, endpoints.get(name), reports) for name in sorted(state.hosts)],
    }


def _host(name: str, endpoint: Endpoint | None, reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    report = reports.get(endpoint.id, {}) if endpoint is not None else {"state": "missing"}
    addresses = [getattr(endpoint, field) for field in ("ipv4_address", "ipv6_address")] if endpoint is not None else []
    return {
        "host": name,
        "addresses": [str(address) for address in addresses if address is not None],
        "mac": endpoint.mac_address if endpoint is not None else None,
        "state": report.get("state", "waiting"),
        "reason": report.get("reason"),
    }
