"""Docker's networks: makes, finds and deletes the Warren networks that they are."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from agent.core import Core
from agent.docker.aux_addresses import AuxAddresses, addresses_of
from agent.docker.ipam import EngineBody, check_pool, from_us, range_of, subnet_of
from agent.docker.ledger import Ledger
from agent.docker.options import MIRRORED, NETWORK_OPTIONS, named_network, read
from agent.docker.validation import check_dhcp, check_references, check_vlans, mode_of
from agent.endpoints.filler import ONLY_HOST
from agent.endpoints.request import EndpointCreate
from specs.model.network import Network
from warren.errors import MISSING, Invalid, NotFound, WarrenError

DRIVER_NAME = "warren.driver"  # in each call's body: by which of its names the engine has called the driver
SAND = "sand"  # under this name the driver makes no networks of its own: SAND's are those of all hosts
ADDED = "docker.added"  # label of an interface that a Docker network added; its value is Docker's id of the network
_SETTINGS = ("host_ip", "prefix")  # options that are not the Warren network's but this engine's


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
        options = body.get("Options") or {}
        generic, internal = options.get("com.docker.network.generic") or {}, bool(options.get("com.docker.network.internal"))
        fields = read(NETWORK_OPTIONS, generic)
        fields |= mode_of(fields, generic, internal)
        added = [*fields.pop("add_ports", ()), *fields.pop("add_copro_ports", ())]
        settings = {"internal": internal, **{name: fields.pop(name) for name in _SETTINGS if name in fields}}
        check_vlans(added, fields.get("vlan"))
        (pool, gateway), (pool6, gateway6) = subnet_of(body.get("IPv4Data")), subnet_of(body.get("IPv6Data"), v6=True)
        check_dhcp(fields, pool)
        check_references(fields, added, self._core.lookup.has_acl, self._core.cache.view.snapshot.hosts.values())
        families = ((False, pool, body.get("IPv4Data")), (True, pool6, body.get("IPv6Data")))
        pools = {given: self._ledger.open_pool(given) if from_us(data) else {} for _, given, data in families if given}
        named = named_network(generic) or next((entry["named"] for entry in pools.values() if "named" in entry), None)
        if named is not None:
            network = self._core.lookup.network(named)
            if internal and network.mode != "flat":
                raise Invalid(
                    "--internal", True, f"no such flag: network {network.name} is in mode {network.mode}, for all hosts"
                )
            for v6, given, _ in families:
                if given:
                    check_pool(given, range_of(network, v6), network, pools[given])
            self._ledger.keep_network(docker_id, network.id, False, list(pools), **settings)
        elif body.get(DRIVER_NAME) == SAND:
            raise Invalid("sand-id", MISSING, "driver sand needs it: --opt sand-id=ID, with the id or name of a network")
        else:
            network_id = str(uuid.uuid4())
            self._ledger.keep_network(docker_id, network_id, True, list(pools), **settings)
        try:
            if named is None:
                labels = {"docker.network": docker_id, ONLY_HOST: self._core.host.name}
                draft = {"id": network_id, "name": f"docker-{docker_id[:12]}", "labels": labels, **fields}
                draft |= {"ip_range": pool, "gateway": gateway} if pool else {}
                draft |= {"ipv6_range": pool6, "ipv6_gateway": gateway6} if pool6 else {}
                network, _ = self._core.repository.create_network(draft)
            self._aux.keep(docker_id, network, addresses_of(body))
            self._add_ports(docker_id, network, added)
        except WarrenError:
            with contextlib.suppress(WarrenError):
                self.delete(body)
            raise
        return {}

    def delete(self, body: EngineBody) -> dict[str, Any]:
        """Forget a Docker network. Deletes the Warren network too when Docker made it."""
        docker_id = str(body["NetworkID"])
        entry = self._ledger.networks().get(docker_id)
        if entry is None:
            return {}
        self._remove_mirror(entry["network"])
        self._remove_ports(docker_id)
        self._aux.give_back(docker_id, entry["network"])
        if entry["made"]:
            for held in [e for e in self._ledger.endpoints() if e.network_id == entry["network"]]:
                self._core.endpoints.detach(held)
            with contextlib.suppress(NotFound):
                self._core.repository.delete_network(entry["network"])
        for pool_id in [
            i for i, pool in self._ledger.pools().items() if entry["made"] and pool.get("network") == entry["network"]
        ]:
            self._ledger.forget(pool_id)  # Docker released it, unless the agent was away then
        self._ledger.forget(docker_id)
        return {}

    def mirror(self, network: Network) -> None:
        """Make the mirror session for this host's mirrored containers of a network."""
        interface, host = self._core.config.docker_mirror, self._core.host.name
        if interface:
            draft = {"name": _session(host, network.id), "sources": [{"network": network.id, "label": f"{MIRRORED}={host}"}],
                     "to": {"host": host, "interface": interface}, "vlan": network.vlan}  # fmt: skip
            self._core.repository.put_mirror(draft)

    def _add_ports(self, docker_id: str, network: Network, drafts: list[dict[str, Any]]) -> None:
        """Put interfaces of this host on a network for as long as Docker has it. Adds all of them, or none and raises."""
        try:
            for draft in drafts:
                draft = {name: value for name, value in draft.items() if name != "native"}
                body = {**draft, "network_id": network.id, "labels": {ADDED: docker_id}}
                self._core.endpoints.attach(EndpointCreate.model_validate(body))
        except WarrenError:
            self._remove_ports(docker_id)
            raise

    def _remove_ports(self, docker_id: str) -> None:
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
    return f"docker-{host[:20]}-{network_id}"[:63]
