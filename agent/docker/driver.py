"""Docker's network driver: what each call of the engine does.

agent/docker/server.py decodes the calls; agent/docker/ipam.py answers those about addresses. State is in etcd
(agent/docker/ledger.py), so an agent that dies loses nothing, and the engine may repeat every call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from agent.core import Core
from agent.dhcp_client.clients import DhcpClients
from agent.docker.aliases import DockerAliases
from agent.docker.aux_addresses import AuxAddresses
from agent.docker.dead import DeadEndpoints
from agent.docker.engine import Container, Engine
from agent.docker.ipam import SPACE, EngineBody, Ipam
from agent.docker.labels import as_record, described, prefixed
from agent.docker.ledger import LABEL, Ledger
from agent.docker.mac import MacChanges
from agent.docker.networks import DockerNetworks, gateways
from agent.docker.options import ENDPOINT_OPTIONS, MIRRORED, read
from agent.docker.ports import ContainerPorts
from agent.docker.remembered import Remembered
from agent.docker.validation import check_acl
from agent.linux import names
from agent.listeners import Listeners
from specs.model.endpoint import SANDBOX, Endpoint
from specs.model.network import Network
from warren.errors import Conflict, NotFound, Unavailable

log = logging.getLogger("warren.docker")

READ_S, BRIEF_S = 5.0, 0.5  # the longest wait for the specs after the start of the agent
REMOVING = ("DeleteNetwork", "DeleteEndpoint", "Leave", "RevokeExternalConnectivity", "ReleasePool", "ReleaseAddress")
Call = Callable[[EngineBody], dict[str, Any]]


class Driver:
    """The network driver of one host. Methods run in threads of the HTTP server; they raise `WarrenError`."""

    def __init__(self, core: Core, engine: Engine, dhcp_clients: DhcpClients) -> None:
        self._core, self._engine, self._dhcp_clients = core, engine, dhcp_clients
        self.ledger = Ledger(core)
        self.remembered = Remembered(core.store, core.host.name)
        self._mac_changes = MacChanges()
        self.awaited: Listeners[[]] = Listeners()  # labels of a container must be looked for soon
        self.aliases = DockerAliases(core, self.ledger, engine)
        aux = AuxAddresses(core, self.ledger)
        self.networks = networks = DockerNetworks(core, self.ledger, aux)
        self._ports, self._dead = ContainerPorts(core, self.ledger), DeadEndpoints(core, self.ledger, engine)
        ipam = Ipam(core, self.ledger, aux)
        informed = {
            "NetworkDriver.CreateNetwork": networks.create,
            "NetworkDriver.DeleteNetwork": networks.delete,
            "NetworkDriver.CreateEndpoint": self._yielding(self.create_endpoint),
            "NetworkDriver.DeleteEndpoint": self.delete_endpoint,
            "NetworkDriver.Join": self._yielding(self.join),
            "NetworkDriver.Leave": self.leave,
            "NetworkDriver.ProgramExternalConnectivity": self._yielding(self.publish),
            "NetworkDriver.RevokeExternalConnectivity": self.revoke,
            "IpamDriver.RequestPool": ipam.request_pool,
            "IpamDriver.ReleasePool": ipam.release_pool,
            "IpamDriver.RequestAddress": self._yielding(ipam.request_address),
            "IpamDriver.ReleaseAddress": ipam.release_address,
        }
        self.calls: dict[str, Call] = {
            "Plugin.Activate": self.activate,
            "NetworkDriver.GetCapabilities": lambda body: {
                "Scope": "local",
                "ConnectivityScope": "global",
                "GwAllocChecker": True,
            },
            "NetworkDriver.GwAllocCheck": lambda body: {"SkipIPv4": False, "SkipIPv6": False},
            "NetworkDriver.EndpointOperInfo": self.operational_info,
            "NetworkDriver.DiscoverNew": lambda body: {},
            "NetworkDriver.DiscoverDelete": lambda body: {},
            "IpamDriver.GetCapabilities": lambda body: {"RequiresMACAddress": False, "RequiresRequestReplay": False},
            "IpamDriver.GetDefaultAddressSpaces": lambda body: {
                "LocalDefaultAddressSpace": f"{SPACE}local",
                "GlobalDefaultAddressSpace": f"{SPACE}global",
            },
            **{name: self._informed(name, call) for name, call in informed.items()},
        }

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def create_endpoint(self, body: EngineBody) -> dict[str, Any]:
        """Write the record of an endpoint, and begin to plug it in.

        This call waits for no more, because the engine starts the containers of a network one after the other here. `join` plugs
        the endpoint in.
        """
        network = self._network(body)
        interface = body.get("Interface") or {}
        fields = read(ENDPOINT_OPTIONS, body.get("Options") or {}, network.references)
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
        endpoint = endpoint.model_copy(update=changes)
        if not endpoint.active:
            self._core.endpoints.plug_ahead(endpoint, network)
        if changes:
            endpoint = self.ledger.update(endpoint)
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
        endpoint, network, docker_network = self._endpoint(body), self._network(body), str(body["NetworkID"])
        peer = names.peer_name(endpoint.id)
        labels = endpoint.labels | {SANDBOX: str(body["SandboxKey"])}
        labelled = not self._core.config.docker_engine  # nobody tells labels: there are none to wait for
        joined = endpoint.model_copy(update={"active": True, "interface": peer, "labelled": labelled, "labels": labels})
        container = self._container(docker_network, joined)
        if container is not None:
            joined = self._described(joined, network, container)
        if endpoint.active and joined.mac_address != endpoint.mac_address:
            self.ledger.recreate(endpoint)
            return self.join(body)
        if MIRRORED in joined.labels:
            self.networks.mirror(network)
        ports = self._ports.in_join(body.get("Options"), docker_network, network, joined)
        joined = joined.model_copy(update={"publish": ports})
        if network.external:
            self._dhcp_clients.joins(endpoint.id, str(body["SandboxKey"]))
        self._core.endpoints.namespaces.join(str(body["SandboxKey"]), endpoint.id, network)
        if not joined.labelled:
            self.awaited()  # look for them until the container's process runs
        # the port of an endpoint without its required labels stays closed; Docker goes on meanwhile
        self._plug_in(endpoint, joined, wait=joined.labelled or not network.labels_required)
        if joined.mac_address != endpoint.mac_address:
            # Docker learned the old MAC from CreateEndpoint, and sets it
            macs = (endpoint.mac_address, joined.mac_address)
            self._mac_changes.begin(str(body["EndpointID"]), str(body["SandboxKey"]), endpoint.veth, *macs)
        prefix = self.ledger.settings(docker_network).get("prefix", "eth")
        return {"InterfaceName": {"SrcName": peer, "DstPrefix": prefix}, **gateways(network)}

    def _plug_in(self, endpoint: Endpoint, joined: Endpoint, wait: bool) -> None:
        """Plug an endpoint in under the container's name, or without a name when another endpoint has that one."""
        try:
            self._dead.yielding(lambda: self._core.endpoints.attach_inactive(joined, wait))
        except Conflict as error:
            if joined.name == endpoint.name or error.field != "name":
                raise
            self._core.endpoints.attach_inactive(joined.model_copy(update={"name": endpoint.name}), wait)

    def tell_labels(self, docker_network: str, endpoint: Endpoint) -> bool:
        """Ask again for the labels of an endpoint that joined without them. Returns whether the engine told them."""
        container, network = self._container(docker_network, endpoint), self.ledger.network(docker_network)
        if container is None or network is None:
            return False
        labelled = self._described(endpoint, network, container).model_copy(
            update={"mac_address": endpoint.mac_address}  # it is in use
        )
        if MIRRORED in labelled.labels:
            self.networks.mirror(network)
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
        self._mac_changes.called(str(body["EndpointID"]))
        endpoint, network = self._endpoint(body), self._network(body)
        requests = self._ports.requests(body.get("Options"), str(body["NetworkID"]), network)
        if requests or not self._internal(body):
            self._ports.publish(endpoint, requests)
        return {}

    def operational_info(self, body: EngineBody) -> dict[str, Any]:
        """Say nothing more of an endpoint. The engine asks when it has plugged it in."""
        self._mac_changes.called(str(body.get("EndpointID")))
        return {"Value": {}}

    def revoke(self, body: EngineBody) -> dict[str, Any]:
        """Withdraw published ports: another network becomes the container's way outside. An internal network is none, and dovesnap's have the
        ports of `join` for as long as the container is there."""
        return {} if self._internal(body) else self.unpublish(body)

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
        if endpoint is not None:
            self._ports.withdraw(endpoint)
        return {}

    def delete_endpoint(self, body: EngineBody) -> dict[str, Any]:
        """Unplug an endpoint and delete its record."""
        endpoint = self.ledger.endpoint(str(body["EndpointID"]))
        if endpoint is not None:
            self.ledger.of_this_run.discard(endpoint.id)  # if this fails, it is in nobody's way
            self._core.endpoints.detach(endpoint)
        return {}

    def activate(self, body: EngineBody) -> dict[str, Any]:
        """Say which drivers this is. The engine asks when it has started: none of the endpoints is in its hands then."""
        self.ledger.of_this_run.clear()
        return {"Implements": ["NetworkDriver", "IpamDriver"]}

    # ---- small things -------------------------------------------------------------------------------------------------

    def _container(self, docker_network: str, endpoint: Endpoint) -> Container | None:
        """Return the container of an endpoint, from the engine, or as it was when the engine told it last."""
        container = self._engine.container(docker_network, endpoint.labels[LABEL])
        if container is None and self._core.config.docker_engine:
            return self.remembered.container(docker_network, endpoint.labels[SANDBOX], endpoint.veth)
        if container is not None and self.remembered.keep(container, docker_network):
            self.awaited()
        return container

    def _described(self, endpoint: Endpoint, network: Network, container: Container) -> Endpoint:
        """Return an endpoint with its container's name and labels. Raises `Invalid` for labels that nothing can be made of."""
        result = described(endpoint, network, container, self._core.host.name)
        for acl in result.acls or ():
            check_acl("warren.acl", acl, self._core.lookup.has_acl)
        return result

    def _internal(self, body: EngineBody) -> bool:
        return bool(self.ledger.settings(str(body["NetworkID"])).get("internal"))

    def _yielding(self, call: Call) -> Call:
        """Return the call, before which endpoints of containers that have ended give way."""
        return lambda body: self._dead.yielding(lambda: call(body))

    def _informed(self, name: str, call: Call) -> Call:
        """Return the call, which waits until the agent has read the specs: it has just started, and has its endpoints in hand then alone.
        What removes does not wait long, because an engine that starts removes much; the sweep makes up for it."""
        removes = name.endswith(REMOVING)

        def informed(body: EngineBody) -> dict[str, Any]:
            if not self._core.cache.synced.wait(BRIEF_S if removes else READ_S) and not removes:
                raise Unavailable("etcd", "the specs have not been read yet")
            return call(body)

        return informed

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
