"""Docker's networks: makes, finds and deletes the Warren networks that they are."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from agent.core import Core
from agent.docker import local_mac
from agent.docker.apart import apart, apart_name, vlan_out_acl
from agent.docker.aux_addresses import AuxAddresses, addresses_of
from agent.docker.ipam import EngineBody, check_pool, range_of
from agent.docker.ledger import UNNAMED, Ledger
from agent.docker.options import MIRRORED
from agent.docker.request import DockerNetworkRequest, parse
from agent.docker.validation import check_references
from agent.endpoints.filler import ONLY_HOST
from agent.endpoints.request import EndpointCreate
from specs.model.names import NAME_LIMIT, is_name
from specs.model.network import Network
from specs.store.endpoints import DEFAULT_VLAN
from warren.errors import MISSING, Conflict, Invalid, NotFound, WarrenError

log = logging.getLogger("warren.docker")

DRIVER_NAME = "warren.driver"  # in each call's body: by which of its names the engine has called the driver
SAND = "sand"  # under this name the driver makes no networks of its own: SAND's are those of all hosts
ADDED = "docker.added"  # label of an interface that a Docker network added; its value is Docker's id of the network


class DockerNetworks:
    """The networks of one engine. Methods raise `WarrenError`."""

    def __init__(self, core: Core, ledger: Ledger, aux: AuxAddresses) -> None:
        self._core, self._ledger, self._aux = core, ledger, aux

    def create(self, body: EngineBody) -> dict[str, Any]:
        """Connect a Docker network to the Warren network that its options name, or to a new one that they describe.

        The ledger remembers the Docker network before anything is made for it, so that the sweep can remove what a crash
        leaves behind. The call may be repeated.
        """
        docker_id = str(body["NetworkID"])
        with contextlib.suppress(NotFound):  # in the ledger, but the Warren network does not exist yet
            if self._ledger.network(docker_id) is not None:
                return {}
        request = parse(body)
        hosts = self._core.cache.view.snapshot.hosts.values()
        check_references(request.fields, request.interfaces, self._core.lookup.has_acl, hosts)
        pools = {s.prefix: self._ledger.open_pool(s.prefix) if s.ours else {} for s in request.subnets}
        named = request.named or next((entry["named"] for entry in pools.values() if "named" in entry), None)
        if named is None and body.get(DRIVER_NAME) == SAND:
            raise Invalid("sand-id", MISSING, "driver sand needs it: --opt sand-id=ID, with the id or name of a network")
        draft, acl = self._drafts(request, named)
        network = self._shared(request, named, pools) if named is not None else None
        vlan = network.vlan if network is not None else request.fields.get("vlan")
        vlans = {str(v): str(uuid.uuid4()) for v in request.by_vlan(vlan) if v != (vlan or DEFAULT_VLAN)}
        self._ledger.keep_network(
            docker_id,
            draft["id"] if network is None else network.id,
            network is None,
            list(pools),
            vlans=vlans,
            **request.settings,
            **self._name_settings(request, network),
        )
        try:
            network = network or self._make(draft, acl)
            if "local_mac" in request.settings:
                local_mac.reconcile(self._core, self._ledger)
            self._aux.keep(docker_id, network, addresses_of(body))
            self._add_interfaces(request, network, vlans)
            if preallocate := request.fields.get("preallocate"):
                self._core.repository.update_network(network.model_copy(update={"preallocate": preallocate}))
        except WarrenError:
            with contextlib.suppress(WarrenError):
                self.delete(body)
            raise
        return {}

    def _make(self, draft: Mapping[str, Any], acl: dict[str, Any] | None) -> Network:
        """Return a network that was created now. Its preallocated endpoints come after interfaces, which may ask for their OpenFlow port numbers."""
        if acl is not None:
            self._core.repository.put_acl(acl)
        return self._core.repository.create_network({**draft, "preallocate": 0})[0]

    def _drafts(self, request: DockerNetworkRequest, named: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return a new Warren network for a Docker network, and the ACL that keeps its containers apart, if it has one."""
        name = f"docker-{request.docker_id[:12]}"
        draft = {"id": str(uuid.uuid4()), "name": name, "labels": self._labels(request), **request.fields, **request.ranges()}
        if "apart" not in request.settings:
            return draft, None
        return draft | {"vlan_out_acl": vlan_out_acl(request)}, apart(request, named)

    def _labels(self, request: DockerNetworkRequest) -> dict[str, str]:
        return {"docker.network": request.docker_id, ONLY_HOST: self._core.host.name}

    def _name_settings(self, request: DockerNetworkRequest, network: Network | None) -> dict[str, bool]:
        """Return what the ledger keeps of the name of a Docker network: that a new Warren network waits for it."""
        return {UNNAMED: True} if network is None and "name" not in request.fields else {}

    def name(self, docker_id: str, name: str) -> None:
        """Let the Warren networks of a Docker network bear its name, or that with the host's if another network has it; the network that the engine
        of another host made under this name is another one."""
        entry = self._ledger.networks().get(docker_id)
        if entry is None:  # deleted meanwhile
            return
        for candidate in (name, f"{name}-{self._core.host.name}"):
            if not is_name(candidate):
                continue
            try:
                self._core.repository.rename_network(entry["network"], candidate)
                for vlan, network_id in (entry.get("vlans") or {}).items():
                    self._core.repository.rename_network(network_id, f"{candidate}-vlan{vlan}"[:NAME_LIMIT])
            except NotFound:
                return
            except Conflict as error:
                log.info("network.keeps_name docker=%s reason=%s", docker_id, error)
                continue
            break
        self._ledger.keep_named(docker_id)

    def _shared(self, request: DockerNetworkRequest, named: str, pools: Mapping[str, Mapping[str, Any]]) -> Network:
        """Return the Warren network that a Docker network names. Raises `Invalid` if it is not as Docker wants it."""
        network = self._core.lookup.network(named)
        if request.internal and network.mode != "flat":
            raise Invalid("--internal", True, f"no such flag: network {network.name} is in mode {network.mode}, for all hosts")
        for subnet in request.subnets:
            check_pool(subnet.prefix, range_of(network, subnet.v6), network, pools[subnet.prefix])
        return network

    def delete(self, body: EngineBody) -> dict[str, Any]:
        """Forget a Docker network. Deletes the Warren networks too that it made."""
        docker_id = str(body["NetworkID"])
        entry = self._ledger.networks().get(docker_id)
        if entry is None:
            return {}
        self._remove_mirror(entry["network"])
        self._remove_interfaces(docker_id)
        self._aux.give_back(docker_id, entry["network"])
        if entry["made"]:
            for held in [e for e in self._ledger.endpoints() if e.network_id == entry["network"]]:
                self._core.endpoints.detach(held)
        for network_id in (*([entry["network"]] if entry["made"] else ()), *(entry.get("vlans") or {}).values()):
            with contextlib.suppress(NotFound):
                self._core.repository.delete_network(network_id)
        if entry.get("apart"):
            with contextlib.suppress(NotFound, Conflict):  # the user has given it to another network, too
                self._core.repository.delete_acl(apart_name(docker_id))
        for pool_id in [
            i for i, pool in self._ledger.pools().items() if entry["made"] and pool.get("network") == entry["network"]
        ]:
            self._ledger.forget(pool_id)  # Docker released it, unless the agent was away then
        self._ledger.forget(docker_id)
        if entry.get("local_mac"):
            local_mac.reconcile(self._core, self._ledger, entry["local_mac"])
        return {}

    def mirror(self, network: Network) -> None:
        """Make the mirror session for this host's mirrored containers of a network."""
        interface, host = self._core.config.docker_mirror, self._core.host.name
        if interface:
            draft = {"name": _session(host, network.id), "sources": [{"network": network.id, "label": f"{MIRRORED}={host}"}],
                     "to": {"host": host, "interface": interface}, "vlan": network.vlan or DEFAULT_VLAN}  # fmt: skip
            self._core.repository.put_mirror(draft)

    def _add_interfaces(self, request: DockerNetworkRequest, network: Network, vlans: Mapping[str, str]) -> None:
        """Put interfaces of this host on a network for as long as Docker has it, and those with another VLAN on a network of their own for
        each VLAN, as dovesnap's switch keeps them apart. Adds all of them, or none and raises."""
        try:
            for vlan, interfaces in request.by_vlan(network.vlan).items():
                network_id = vlans.get(str(vlan), network.id)
                if network_id != network.id:
                    draft = {"id": network_id, "name": f"docker-{request.docker_id[:12]}-vlan{vlan}", "vlan": vlan}
                    self._core.repository.create_network(draft | {"labels": self._labels(request)})
                for interface in interfaces:
                    fields = {name: value for name, value in interface.items() if name != "native"}
                    body = {**fields, "network_id": network_id, "labels": {ADDED: request.docker_id}}
                    self._core.endpoints.attach(EndpointCreate.model_validate(body))
        except WarrenError:
            self._remove_interfaces(request.docker_id)
            raise

    def _remove_interfaces(self, docker_id: str) -> None:
        for endpoint in [e for e in self._core.cache.view.local_endpoints.values() if e.labels.get(ADDED) == docker_id]:
            self._core.endpoints.detach(endpoint)

    def _remove_mirror(self, network_id: str) -> None:
        name = _session(self._core.host.name, network_id)
        if name in self._core.cache.view.snapshot.mirrors:
            with contextlib.suppress(NotFound):
                self._core.repository.delete_mirror(name)


def gateways(network: Network) -> Mapping[str, Any]:
    """Return the part of Join's answer that names the gateways."""
    if network.mode == "flat" or (network.gateway is None and network.ipv6_gateway is None):
        return {"DisableGatewayService": True}
    pairs = (("Gateway", network.gateway), ("GatewayIPv6", network.ipv6_gateway))
    return {name: str(gateway.ip) for name, gateway in pairs if gateway is not None}


def _session(host: str, network_id: str) -> str:
    return f"docker-{host[:20]}-{network_id}"[:NAME_LIMIT]
