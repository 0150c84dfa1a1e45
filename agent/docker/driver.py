"""Docker's network driver: what each call of the engine does.

agent/docker/server.py decodes the calls; agent/docker/ipam.py answers those about addresses. State is in etcd
(agent/docker/ledger.py), so an agent that dies loses nothing, and the engine may repeat every call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from agent.core import Core
from agent.dhcp_client.clients import DhcpClients
from agent.docker.aux_addresses import AuxAddresses, addresses_of
from agent.docker.engine import Engine
from agent.docker.ipam import SPACE, EngineBody, Ipam, check_pool, from_us, range_of, subnet_of
from agent.docker.labels import as_record, described, prefixed
from agent.docker.ledger import LABEL, Ledger
from agent.docker.mac import follow
from agent.docker.options import ENDPOINT_OPTIONS, MIRRORED, NETWORK_OPTIONS, PortRequest, named_network, published, read
from agent.endpoints.filler import ONLY_HOST
from agent.endpoints.request import EndpointCreate
from agent.linux import names
from agent.linux.host_ports import listeners
from specs import keys
from specs.model.endpoint import SANDBOX, Endpoint
from specs.model.network import Network
from specs.model.publish import Publish
from specs.store import bitmap
from specs.store.endpoints import DEFAULT_VLAN
from specs.store.pool import Pool
from warren.errors import MISSING, Conflict, Exhausted, Invalid, NotFound, WarrenError

log = logging.getLogger("warren.docker")

CHOICES = 20
DRIVER_NAME = "warren.driver"  # in each call's body: by which of its names the engine has called the driver
SAND = "sand"  # under this name the driver makes no networks of its own: SAND's are those of all hosts
ADDED = "docker.added"  # label of an interface that a Docker network added; its value is Docker's id of the network


class Driver:
    """The network driver of one host. Methods run in threads of the HTTP server; they raise `WarrenError`."""

    def __init__(self, core: Core, engine: Engine, dhcp_clients: DhcpClients) -> None:
        self._core, self._engine, self._dhcp_clients = core, engine, dhcp_clients
        self.ledger = Ledger(core)
        self._aux = AuxAddresses(core, self.ledger)
        ipam = Ipam(core, self.ledger, self._aux)
        self.calls: dict[str, Callable[[EngineBody], dict[str, Any]]] = {
            "Plugin.Activate": lambda body: {"Implements": ["NetworkDriver", "IpamDriver"]},
            "NetworkDriver.GetCapabilities": lambda body: {
                "Scope": "local",
                "ConnectivityScope": "global",
                "GwAllocChecker": True,
            },
            "NetworkDriver.GwAllocCheck": lambda body: {"SkipIPv4": False, "SkipIPv6": False},
            "NetworkDriver.CreateNetwork": self.create_network,
            "NetworkDriver.DeleteNetwork": self.delete_network,
            "NetworkDriver.CreateEndpoint": self.create_endpoint,
            "NetworkDriver.DeleteEndpoint": self.delete_endpoint,
            "NetworkDriver.EndpointOperInfo": lambda body: {"Value": {}},
            "NetworkDriver.Join": self.join,
            "NetworkDriver.Leave": self.leave,
            "NetworkDriver.ProgramExternalConnectivity": self.publish,
            "NetworkDriver.RevokeExternalConnectivity": self.unpublish,
            "NetworkDriver.DiscoverNew": lambda body: {},
            "NetworkDriver.DiscoverDelete": lambda body: {},
            "IpamDriver.GetCapabilities": lambda body: {"RequiresMACAddress": False, "RequiresRequestReplay": False},
            "IpamDriver.GetDefaultAddressSpaces": lambda body: {
                "LocalDefaultAddressSpace": f"{SPACE}local",
                "GlobalDefaultAddressSpace": f"{SPACE}global",
            },
            "IpamDriver.RequestPool": ipam.request_pool,
            "IpamDriver.ReleasePool": ipam.release_pool,
            "IpamDriver.RequestAddress": ipam.request_address,
            "IpamDriver.ReleaseAddress": ipam.release_address,
        }

    # ---- networks -----------------------------------------------------------------------------------------------------

    def create_network(self, body: EngineBody) -> dict[str, Any]:
        """Connect a Docker network to the Warren network that its options name, or to a new one that they describe.

        The ledger remembers the Docker network before anything is made for it, so that the sweep can remove what a crash
        leaves behind. The call may be repeated.
        """
        docker_id = str(body["NetworkID"])
        with contextlib.suppress(NotFound):  # in the ledger, but the Warren network does not exist yet
            if self.ledger.network(docker_id) is not None:
                return {}
        options = body.get("Options") or {}
        generic, internal = options.get("com.docker.network.generic") or {}, bool(options.get("com.docker.network.internal"))
        fields = read(NETWORK_OPTIONS, generic)
        added = [*fields.pop("add_ports", ()), *fields.pop("add_copro_ports", ())]
        _check_vlans(added, fields.get("vlan"))
        (pool, gateway), (pool6, gateway6) = subnet_of(body.get("IPv4Data")), subnet_of(body.get("IPv6Data"), v6=True)
        _check_dhcp(fields, pool)
        families = ((False, pool, body.get("IPv4Data")), (True, pool6, body.get("IPv6Data")))
        pools = {given: self.ledger.open_pool(given) if from_us(data) else {} for _, given, data in families if given}
        named = named_network(generic) or next((entry["named"] for entry in pools.values() if "named" in entry), None)
        if named is not None:
            network = self._core.lookup.network(named)
            for v6, given, _ in families:
                if given:
                    check_pool(given, range_of(network, v6), network, pools[given])
            self.ledger.keep_network(docker_id, network.id, False, internal, list(pools))
        elif body.get(DRIVER_NAME) == SAND:
            raise Invalid("sand-id", MISSING, "driver sand needs it: --opt sand-id=ID, with the id or name of a network")
        else:
            network_id = str(uuid.uuid4())
            self.ledger.keep_network(docker_id, network_id, True, internal, list(pools))
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
                self.delete_network(body)
            raise
        return {}

    def delete_network(self, body: EngineBody) -> dict[str, Any]:
        """Forget a Docker network. Deletes the Warren network too when Docker made it."""
        docker_id = str(body["NetworkID"])
        entry = self.ledger.networks().get(docker_id)
        if entry is None:
            return {}
        self._remove_mirror(entry["network"])
        self._remove_ports(docker_id)
        self._aux.give_back(docker_id, entry["network"])
        if entry["made"]:
            for held in [e for e in self.ledger.endpoints() if e.network_id == entry["network"]]:
                self._core.endpoints.detach(held)
            with contextlib.suppress(NotFound):
                self._core.repository.delete_network(entry["network"])
        for pool_id in [
            i for i, pool in self.ledger.pools().items() if entry["made"] and pool.get("network") == entry["network"]
        ]:
            self.ledger.forget(pool_id)  # Docker released it, unless the agent was away then
        self.ledger.forget(docker_id)
        return {}

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def create_endpoint(self, body: EngineBody) -> dict[str, Any]:
        """Write the record of an endpoint.

        This call does no more, because the engine starts the containers of a network one after the other here. `join` plugs
        the endpoint in.
        """
        network = self._network(body)
        interface = body.get("Interface") or {}
        fields = read(ENDPOINT_OPTIONS, body.get("Options") or {}, (network.name, network.id))
        mac, prefix = interface.get("MacAddress") or None, fields.pop("mac_prefix", None)
        labels = {LABEL: str(body["EndpointID"])} | ({MIRRORED: self._core.host.name} if fields.pop("mirror", False) else {})
        v4, v6 = (str(interface.get(name) or "").partition("/")[0] for name in ("Address", "AddressIPv6"))
        endpoint = self._holder(network, v4, v6)
        if endpoint is None:
            endpoint = self._new(network, {"labels": labels, "mac_address": mac, **fields}, v4, v6)
            changes = as_record(fields)
        else:
            changes = {"labels": labels, **({"mac_address": mac} if mac else {}), **as_record(fields)}
        if prefix is not None:
            changes["mac_address"] = prefixed(prefix, changes.get("mac_address", endpoint.mac_address))
        if endpoint.active and changes.get("mac_address", endpoint.mac_address) != endpoint.mac_address:
            endpoint = self.ledger.recreate(endpoint)
        if changes:
            endpoint = self.ledger.update(endpoint.model_copy(update=changes))
        answer = {} if mac else {"MacAddress": endpoint.mac_address}
        if not v4 and not v6 and endpoint.ipv4_address is not None and network.ip_range is not None:
            answer["Address"] = f"{endpoint.ipv4_address}/{network.ip_range.prefixlen}"
        return {"Interface": answer}

    def _holder(self, network: Network, v4: str, v6: str) -> Endpoint | None:
        """Return the endpoint that holds the addresses which Docker chose, or a preallocated one with those addresses.
        Raises `Conflict`."""
        chosen = [address for address in (v4, v6) if address]
        if not chosen:
            return None
        holder = self.ledger.held(network.id, chosen[0]) or self.ledger.take_preallocated(network, chosen)
        if holder is not None and v6 and v6 != str(holder.ipv6_address):
            raise Conflict(
                f"{v4} and {v6} were given to two containers that started at once: start this one again", field="ipv6_address"
            )
        return holder

    def _new(self, network: Network, fields: dict[str, Any], v4: str, v6: str) -> Endpoint:
        """Return a new endpoint, with the addresses that Docker's own IPAM driver chose, if it did."""
        addresses = {name: address for name, address in (("ipv4_address", v4), ("ipv6_address", v6)) if address}
        with self.ledger.cleared(network, list(addresses.values())):
            return self.ledger.create({"network_id": network.id, **fields, **addresses})[0]

    def join(self, body: EngineBody) -> dict[str, Any]:
        """Plug an endpoint in. Returns when packets can flow.

        The engine has a short time to tell the container's name and labels; `tell_labels` asks again later.
        """
        endpoint, network = self._endpoint(body), self._network(body)
        container = self._engine.container(str(body["NetworkID"]), str(body["EndpointID"]))
        peer = names.peer_name(endpoint.id)
        labels = endpoint.labels | {SANDBOX: str(body["SandboxKey"])}
        joined = endpoint.model_copy(update={"active": True, "interface": peer, "labelled": False, "labels": labels})
        if container is not None:
            joined = described(joined, network, container, self._core.host.name)
        if endpoint.active and joined.mac_address != endpoint.mac_address:
            self.ledger.recreate(endpoint)
            return self.join(body)
        if MIRRORED in joined.labels:
            self._mirror(network)
        if self.ledger.is_internal(str(body["NetworkID"])) and (requests := self._port_requests(body, network)):
            joined = joined.model_copy(update={"publish": tuple(self._choose_ports(requests))})
        if network.external:
            self._dhcp_clients.joins(endpoint.id, str(body["SandboxKey"]))
        self._core.endpoints.namespaces.join(str(body["SandboxKey"]), endpoint.id, network)
        # the port of an endpoint without its required labels stays closed; Docker goes on meanwhile
        self._plug_in(endpoint, joined, wait=joined.labelled or not network.labels_required)
        if joined.mac_address != endpoint.mac_address:
            # Docker learned the old MAC from CreateEndpoint, and sets it
            arguments = (str(body["SandboxKey"]), endpoint.veth, endpoint.mac_address, joined.mac_address)
            threading.Thread(target=follow, args=arguments, name="mac", daemon=True).start()
        return {"InterfaceName": {"SrcName": peer, "DstPrefix": "eth"}, **_gateways(network)}

    def _plug_in(self, endpoint: Endpoint, joined: Endpoint, wait: bool) -> None:
        """Plug an endpoint in under the container's name, or without a name when another endpoint has that one."""
        try:
            self._core.endpoints.attach_inactive(joined, wait)
        except Conflict as error:
            if joined.name == endpoint.name or error.field != "name":
                raise
            self._core.endpoints.attach_inactive(joined.model_copy(update={"name": endpoint.name}), wait)

    def tell_labels(self, docker_network: str, endpoint: Endpoint) -> bool:
        """Ask again for the labels of an endpoint that joined without them. Returns whether the engine told them."""
        container = self._engine.container(docker_network, endpoint.labels[LABEL])
        network = self.ledger.network(docker_network)
        if container is None or network is None:
            return False
        labelled = described(endpoint, network, container, self._core.host.name).model_copy(
            update={"mac_address": endpoint.mac_address}  # it is in use
        )
        if MIRRORED in labelled.labels:
            self._mirror(network)
        try:
            self.ledger.update(labelled)
        except Conflict as error:
            if error.field not in ("name", "allowed"):
                raise
            if error.field == "allowed":  # the container runs already: it cannot be refused any more
                log.warning("labels.wrong id=%s reason=%s", endpoint.id, error)
            self.ledger.update(labelled.model_copy(update={error.field: getattr(endpoint, error.field)}))
        log.info("endpoint.labelled id=%s container=%s", endpoint.id, container.name)
        return True

    def publish(self, body: EngineBody) -> dict[str, Any]:
        """Publish the ports of a container. Raises `Conflict` when one is taken."""
        endpoint, network = self._endpoint(body), self._network(body)
        requests = self._port_requests(body, network)
        if not requests and not endpoint.publish:
            return {}
        for attempt in range(CHOICES):
            try:
                self.ledger.update(endpoint.model_copy(update={"publish": tuple(self._choose_ports(requests))}))
                break
            except Conflict:
                if attempt == CHOICES - 1 or all(len(request.candidates) == 1 for request in requests):
                    raise  # another agent may have taken a free port since; then choose again
        return {}

    def leave(self, body: EngineBody) -> dict[str, Any]:
        """Give back the address that a DHCP server leased, while the interface is still in the container, and withdraw
        published ports."""
        endpoint = self.ledger.endpoint(str(body["EndpointID"]))
        if endpoint is not None:
            self._dhcp_clients.leave(endpoint.id)
        return self.unpublish(body)

    def unpublish(self, body: EngineBody) -> dict[str, Any]:
        """Withdraw published ports."""
        endpoint = self.ledger.endpoint(str(body["EndpointID"]))
        if endpoint is not None and endpoint.publish:
            self.ledger.update(endpoint.model_copy(update={"publish": ()}))
        return {}

    def delete_endpoint(self, body: EngineBody) -> dict[str, Any]:
        """Unplug an endpoint and delete its record."""
        endpoint = self.ledger.endpoint(str(body["EndpointID"]))
        if endpoint is not None:
            self._core.endpoints.detach(endpoint)
        return {}

    # ---- small things -------------------------------------------------------------------------------------------------

    def _endpoint(self, body: EngineBody) -> Endpoint:
        endpoint = self.ledger.endpoint(str(body["EndpointID"]))
        if endpoint is None:
            raise NotFound("endpoint", str(body["EndpointID"]))
        return endpoint

    def _network(self, body: EngineBody) -> Network:
        network = self.ledger.network(str(body["NetworkID"]))
        if network is None:
            raise NotFound("network", str(body["NetworkID"]))
        return network

    def _port_requests(self, body: EngineBody, network: Network) -> list[PortRequest]:
        requests = published(body.get("Options") or {})
        if requests and network.mode != "nat":
            problem = f"network {network.name} is in mode {network.mode}, and published ports need mode nat (-o warren.mode=nat)"
            raise Invalid("-p", MISSING, "mode nat", problem=problem)
        return requests

    def _choose_ports(self, requests: list[PortRequest]) -> list[Publish]:
        """Choose ports of the host where Docker leaves the choice open. The update is refused when another host's agent
        takes one first."""
        ports: list[Publish] = []
        for candidates, request in requests:
            prefix = keys.pool_published(self._core.host.name, request["proto"])
            pool = Pool.read(prefix, self._core.repository.store.list(prefix)[1])
            mine = {p.host_port for p in ports if p.proto == request["proto"]}
            host_port: int | None = candidates[0]
            if len(candidates) > 1:
                mine |= {listener.port for listener in listeners(request["proto"])}
                host_port = bitmap.lowest_free(pool.blocks, candidates[0], candidates[-1], mine)  # type: ignore[arg-type]
            if host_port is None:
                raise Exhausted(
                    f"no {request['proto']} port of host {self._core.host.name} is left in {candidates[0]}-{candidates[-1]}"
                )
            ports.append(Publish(host_port=host_port, **request))
        return ports

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

    def _mirror(self, network: Network) -> None:
        """Return the mirror session for this host's mirrored containers of a network."""
        interface, host = self._core.config.docker_mirror, self._core.host.name
        if interface:
            draft = {"name": _session(host, network.id), "sources": [{"network": network.id, "label": f"{MIRRORED}={host}"}],
                     "to": {"host": host, "interface": interface}, "vlan": network.vlan}  # fmt: skip
            self._core.repository.put_mirror(draft)

    def _remove_mirror(self, network_id: str) -> None:
        name = _session(self._core.host.name, network_id)
        if name in self._core.cache.view.snapshot.mirrors:
            with contextlib.suppress(NotFound):
                self._core.repository.delete_mirror(name)


def _check_vlans(drafts: list[dict[str, Any]], vlan: int | None) -> None:
    network_vlan = vlan or DEFAULT_VLAN
    for draft in drafts:
        if (draft.get("native") or network_vlan) != network_vlan:
            expected = f"{network_vlan}, the network's own, or nothing; another VLAN is another network's (warren port add)"
            raise Invalid(f"add_ports: {draft['port']}", draft["native"], expected)


def _check_dhcp(fields: Mapping[str, Any], pool: str) -> None:
    if fields.get("dhcp") and fields.get("mode", "flat") != "flat":
        raise Invalid("ovs.bridge.mode", fields["mode"], "flat, with ovs.bridge.dhcp=true: the server outside tells the router")
    if fields.get("dhcp") and pool:
        expected = "none, with ovs.bridge.dhcp=true: say --ipam-driver null, for the server outside gives the addresses"
        raise Invalid("--subnet", pool, expected)


def _gateways(network: Network) -> dict[str, Any]:
    """Return the part of Join's answer that names the gateways."""
    if network.mode == "flat" or (network.gateway is None and network.ipv6_gateway is None):
        return {"DisableGatewayService": True}
    pairs = (("Gateway", network.gateway), ("GatewayIPv6", network.ipv6_gateway))
    return {name: str(gateway.ip) for name, gateway in pairs if gateway is not None}


def _session(host: str, network_id: str) -> str:
    return f"docker-{host[:20]}-{network_id}"[:63]
