"""Docker's network and IPAM driver: what each call of the engine does. agent/docker_server.py brings the calls here.

State is in etcd: which Warren network a Docker network is (`docker/HOST/networks/ID`), which network a pool of addresses is for
(`docker/HOST/pools/ID`), and endpoints, which carry Docker's id as a label. An address that Docker asks for before there is an endpoint is
held by an inactive endpoint, so no two engines ever get the same one.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_interface, ip_network
from typing import Any

from agent import plug
from agent.docker_engine import Engine
from agent.docker_options import ENDPOINT_OPTIONS, NETWORK_OPTIONS, named_network, published, read
from agent.service import Agent
from specs import keys
from specs.errors import Conflict, Invalid, NotFound
from specs.records import Endpoint, Network
from specs.store import Delete, Get, Put

log = logging.getLogger("warren.docker")

LABEL = "docker.endpoint"  # of an endpoint: Docker's id of it
POOLS = ip_network("10.99.0.0/16")  # of networks that Docker makes without a subnet, a /24 each
GATEWAY = "com.docker.network.gateway"
Body = Mapping[str, Any]


class Driver:
    """One host's driver. Methods are called in threads; they raise `WarrenError`."""

    def __init__(self, agent: Agent, engine: Engine) -> None:
        self._agent, self._engine = agent, engine
        self._networks: dict[str, str] = {}  # Docker's ids of networks and pools to Warren's: they never change
        self.calls: dict[str, Callable[[Body], dict[str, Any]]] = {
            "Plugin.Activate": lambda body: {"Implements": ["NetworkDriver", "IpamDriver"]},
            "NetworkDriver.GetCapabilities": lambda body: {
                "Scope": "local",
                "ConnectivityScope": "global",
                "GwAllocChecker": True,
            },
            "NetworkDriver.GwAllocCheck": lambda body: {"SkipIPv4": False, "SkipIPv6": True},
            "NetworkDriver.CreateNetwork": self.create_network,
            "NetworkDriver.DeleteNetwork": self.delete_network,
            "NetworkDriver.CreateEndpoint": self.create_endpoint,
            "NetworkDriver.DeleteEndpoint": self.delete_endpoint,
            "NetworkDriver.EndpointOperInfo": lambda body: {"Value": {}},
            "NetworkDriver.Join": self.join,
            "NetworkDriver.Leave": self.leave,
            "NetworkDriver.ProgramExternalConnectivity": self.publish,
            "NetworkDriver.RevokeExternalConnectivity": self.leave,
            "NetworkDriver.DiscoverNew": lambda body: {},
            "NetworkDriver.DiscoverDelete": lambda body: {},
            "IpamDriver.GetCapabilities": lambda body: {"RequiresMACAddress": False, "RequiresRequestReplay": False},
            "IpamDriver.GetDefaultAddressSpaces": lambda body: {
                "LocalDefaultAddressSpace": "warren-local",
                "GlobalDefaultAddressSpace": "warren-global",
            },
            "IpamDriver.RequestPool": self.request_pool,
            "IpamDriver.ReleasePool": self.release_pool,
            "IpamDriver.RequestAddress": self.request_address,
            "IpamDriver.ReleaseAddress": self.release_address,
        }

    # ---- addresses ----------------------------------------------------------------------------------------------------

    def request_pool(self, body: Body) -> dict[str, Any]:
        """A pool is a Warren network, named by an option, or one that CreateNetwork will make."""
        if body.get("V6"):
            raise Invalid("--ipv6", "an IPv6 pool", "none: a Warren network brings its own IPv6 range")
        named = named_network(body.get("Options") or {})
        if named is not None:
            network = self._agent.network(named)
            if network.ip_range is None:
                raise Invalid("warren.network", named, "a network with ip_range, or --ipam-driver null")
            if body.get("Pool") and ip_network(str(body["Pool"])) != network.ip_range:
                raise Invalid("--subnet", body["Pool"], f"{network.ip_range}, as network {network.name} has it, or nothing")
            return {"PoolID": f"network-{network.id}", "Pool": str(network.ip_range), "Data": {}}
        if body.get("SubPool"):
            raise Invalid("--ip-range", body["SubPool"], "nothing: Warren gives out the whole subnet")
        pool = _subnet(body["Pool"]) if body.get("Pool") else self._free_pool()
        pool_id = f"pool-{uuid.uuid4()}"
        self._put(self._pool_key(pool_id), {"pool": pool})
        return {"PoolID": pool_id, "Pool": pool, "Data": {}}

    def release_pool(self, body: Body) -> dict[str, Any]:
        """Forget a pool."""
        self._agent.specs.store.txn((), [Delete(self._pool_key(str(body["PoolID"])))])
        self._networks.pop(str(body["PoolID"]), None)
        return {}

    def request_address(self, body: Body) -> dict[str, Any]:
        """An address is held by an inactive endpoint until Docker makes the endpoint."""
        pool_id, wanted = str(body["PoolID"]), body.get("Address") or None
        gateway = (body.get("Options") or {}).get("RequestAddressType") == GATEWAY
        network = self._network_of_pool(pool_id)
        if network is None:  # CreateNetwork has not come yet
            pool = ip_network(self._get(self._pool_key(pool_id))["pool"])
            return {"Address": f"{wanted or pool[1]}/{pool.prefixlen}", "Data": {}}
        if gateway:
            if network.gateway is None:
                raise Invalid("--gateway", wanted, f"nothing: network {network.name} has no gateway")
            if wanted is not None and ip_interface(str(wanted)).ip != network.gateway.ip:
                raise Invalid("--gateway", wanted, f"{network.gateway.ip}, as network {network.name} has it")
            return {"Address": str(network.gateway), "Data": {}}
        draft = {"network_id": network.id, "host": self._agent.host.name, "active": False, "labels": {LABEL: ""}}
        endpoint, network, revision = self._agent.specs.create_endpoint(draft | ({"ipv4_address": wanted} if wanted else {}))
        self._wrote(endpoint, revision)
        assert network.ip_range is not None
        return {"Address": f"{endpoint.ipv4_address}/{network.ip_range.prefixlen}", "Data": {}}

    def release_address(self, body: Body) -> dict[str, Any]:
        """Give an address back that no container has: the endpoint's own end has done so else."""
        network, address = self._network_of_pool(str(body["PoolID"])), str(body.get("Address", "")).partition("/")[0]
        held = self._held(network.id, address) if network is not None else None
        if held is not None:
            self._agent.endpoints.detach(held)
        return {}

    # ---- networks -----------------------------------------------------------------------------------------------------

    def create_network(self, body: Body) -> dict[str, Any]:
        """A Docker network is a Warren network that its options name, or one that they describe. Safe to repeat."""
        network_id = str(body["NetworkID"])
        if self._network(network_id, missing=True) is not None:
            return {}
        generic = (body.get("Options") or {}).get("com.docker.network.generic") or {}
        fields = read(NETWORK_OPTIONS, generic)
        given = (body.get("IPv4Data") or [{}])[0]
        pool = str(given.get("Pool") or "")
        named = named_network(generic)
        if named is not None:
            network = self._agent.network(named)
            if pool not in ("", "0.0.0.0/0") and str(network.ip_range) != pool:
                raise Invalid(
                    "--subnet", pool, f"{network.ip_range}, as network {network.name} has it (--ipam-driver and --ipam-opt too)"
                )
            self._put(self._network_key(network_id), {"network": network.id, "made": False})
            return {}
        draft = {"name": f"docker-{network_id[:12]}", "labels": {"docker.network": network_id}, **fields}
        if pool not in ("", "0.0.0.0/0"):
            draft |= {"ip_range": _subnet(pool), "gateway": given.get("Gateway") or None}
        network, revision = self._agent.specs.create_network(draft)
        self._agent.known.wrote(keys.network(network.id), network.encode(), revision)
        puts = [Put(self._network_key(network_id), json.dumps({"network": network.id, "made": True}))]
        puts += [Put(key, json.dumps({"pool": pool, "network": network.id})) for key in self._open_pools(pool)[:1]]
        self._agent.specs.store.txn((), puts)
        return {}

    def delete_network(self, body: Body) -> dict[str, Any]:
        """Forget it; the Warren network goes too when Docker made it."""
        key = self._network_key(str(body["NetworkID"]))
        found = self._get(key, missing=True)
        if found is None:
            return {}
        if found["made"]:
            for held in [
                e for e in list(self._agent.known.mine.values()) if e.network_id == found["network"] and LABEL in e.labels
            ]:
                self._agent.endpoints.detach(held)
            try:
                revision = self._agent.specs.delete_network(found["network"])
                self._agent.known.wrote(keys.network(found["network"]), None, revision)
            except NotFound:
                pass
        self._agent.specs.store.txn((), [Delete(key)])
        self._networks.pop(str(body["NetworkID"]), None)
        return {}

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def create_endpoint(self, body: Body) -> dict[str, Any]:
        """The record alone: Docker starts one container of a network after the other here. Join plugs it in."""
        network = self._network(str(body["NetworkID"]))
        assert network is not None
        given, options = body.get("Interface") or {}, body.get("Options") or {}
        fields = read(ENDPOINT_OPTIONS, options)
        labels = {LABEL: str(body["EndpointID"])}
        address, mac = str(given.get("Address") or "").partition("/")[0], given.get("MacAddress") or None
        held = self._held(network.id, address) if address else None
        if held is None:
            draft = {
                "network_id": network.id,
                "host": self._agent.host.name,
                "active": False,
                "labels": labels,
                "mac_address": mac,
            }
            held, network, revision = self._agent.specs.create_endpoint(
                draft | ({"ipv4_address": address} if address else {}) | fields
            )
        else:
            held = held.model_copy(update={"labels": labels, **({"mac_address": mac} if mac else {}), **_as_record(fields)})
            revision = self._agent.specs.update_endpoint(held)
        self._wrote(held, revision)
        answer = {} if mac else {"MacAddress": held.mac_address}
        if not address and held.ipv4_address is not None and network.ip_range is not None:
            answer["Address"] = f"{held.ipv4_address}/{network.ip_range.prefixlen}"
        return {"Interface": answer}

    def join(self, body: Body) -> dict[str, Any]:
        """Plug it in: the answer comes when packets can flow. What the container is called is asked of the engine, quickly."""
        endpoint = self._endpoint(body)
        network = self._network(str(body["NetworkID"]))
        assert network is not None
        container = self._engine.container(str(body["NetworkID"]), str(body["EndpointID"]))
        fields: dict[str, Any] = {}
        if container is not None:
            fields = read(ENDPOINT_OPTIONS, {k: v for k, v in container.labels.items() if k in _ENDPOINT_NAMES})
            labels = {k: v for k, v in container.labels.items() if not k.startswith("com.docker.")}
            fields["labels"] = {**labels, **endpoint.labels}
            if endpoint.name is None and "name" not in fields:
                fields["name"] = container.name
            fields = {k: v for k, v in fields.items() if k != "acls" or endpoint.acls is None}
        peer = plug.peer_name(endpoint.id)
        wanted = endpoint.model_copy(update={"active": True, "interface": peer, **_as_record(fields)})
        try:
            self._agent.endpoints.occupy(wanted)
        except Conflict as error:
            if "name" not in fields or "name" not in str(error):
                raise
            self._agent.endpoints.occupy(wanted.model_copy(update={"name": endpoint.name}))  # another's: go without
        answer: dict[str, Any] = {"InterfaceName": {"SrcName": peer, "DstPrefix": "eth"}}
        if network.mode != "flat" and network.gateway is not None:
            return answer | {"Gateway": str(network.gateway.ip)}
        return answer | {"DisableGatewayService": True}

    def publish(self, body: Body) -> dict[str, Any]:
        """Publish the container's ports. Raises `Conflict` for one that is taken."""
        ways = published(body.get("Options") or {})
        endpoint = self._endpoint(body)
        network = self._network(str(body["NetworkID"]))
        if ways and network is not None and network.mode != "nat":
            raise Invalid("-p", f"network {network.name} in mode {network.mode}", "mode nat: -o warren.mode=nat")
        self._update(endpoint.model_copy(update=_as_record({"publish": ways})))
        return {}

    def leave(self, body: Body) -> dict[str, Any]:
        """Take published ports back."""
        endpoint = self._endpoint(body, missing=True)
        if endpoint is not None and endpoint.publish:
            self._update(endpoint.model_copy(update={"publish": ()}))
        return {}

    def delete_endpoint(self, body: Body) -> dict[str, Any]:
        """Unplug and forget."""
        endpoint = self._endpoint(body, missing=True)
        if endpoint is not None:
            self._agent.endpoints.detach(endpoint)
        return {}

    # ---- looking up ---------------------------------------------------------------------------------------------------

    def _endpoint(self, body: Body, missing: bool = False) -> Any:
        wanted = str(body["EndpointID"])
        found = next((e for e in list(self._agent.known.mine.values()) if e.labels.get(LABEL) == wanted), None)
        if found is None and not missing:
            raise NotFound("endpoint", wanted)
        return found

    def _held(self, network_id: str, address: str) -> Endpoint | None:
        """The endpoint that holds an address for Docker."""
        mine = list(self._agent.known.mine.values())
        return next(
            (e for e in mine if e.network_id == network_id and str(e.ipv4_address) == address and e.labels.get(LABEL) == ""), None
        )

    def _network(self, docker_id: str, missing: bool = False) -> Network | None:
        if docker_id not in self._networks:
            found = self._get(self._network_key(docker_id), missing)
            if found is None:
                return None
            self._networks[docker_id] = found["network"]
        return self._known_network(self._networks[docker_id])

    def _network_of_pool(self, pool_id: str) -> Network | None:
        if pool_id.startswith("network-"):
            return self._known_network(pool_id.removeprefix("network-"))
        if pool_id not in self._networks:
            found = self._get(self._pool_key(pool_id), missing=True) or {}
            if "network" not in found:
                return None
            self._networks[pool_id] = found["network"]
        return self._known_network(self._networks[pool_id])

    def _known_network(self, network_id: str) -> Network:
        return self._agent.known.snapshot.networks.get(network_id) or self._agent.network(network_id)

    def _open_pools(self, pool: str) -> list[str]:
        """Pools of a subnet that no network has taken, the newest first."""
        entries = self._agent.specs.store.list(keys.docker_pools(self._agent.host.name))[1]
        fresh = [entry for entry in entries if json.loads(entry.value) == {"pool": pool}]
        return [entry.key for entry in sorted(fresh, key=lambda entry: -entry.create_revision)]

    def _free_pool(self) -> str:
        taken: list[Any] = [n.ip_range for n in self._agent.known.snapshot.networks.values() if n.ip_range is not None]
        taken += [
            ip_network(json.loads(e.value)["pool"])
            for e in self._agent.specs.store.list(keys.docker_pools(self._agent.host.name))[1]
        ]
        for candidate in POOLS.subnets(new_prefix=24):
            if not any(candidate.overlaps(other) for other in taken if other.version == 4):
                return str(candidate)
        raise Invalid("--subnet", "nothing", f"a subnet: none is free in {POOLS}")

    def _network_key(self, docker_id: str) -> str:
        return keys.docker_network(self._agent.host.name, docker_id)

    def _pool_key(self, pool_id: str) -> str:
        return keys.docker_pools(self._agent.host.name) + pool_id

    def _get(self, key: str, missing: bool = False) -> Any:
        found = self._agent.specs.store.txn((), [Get(key)]).found[0]
        if not found and not missing:
            raise NotFound(*key.rsplit("/", 2)[1:])
        return json.loads(found[0].value) if found else None

    def _put(self, key: str, data: Mapping[str, Any]) -> None:
        self._agent.specs.store.txn((), [Put(key, json.dumps(data))])

    def _wrote(self, endpoint: Endpoint, revision: int) -> None:
        self._agent.known.wrote(keys.endpoint(endpoint.network_id, endpoint.id), endpoint.encode(), revision)

    def _update(self, endpoint: Endpoint) -> None:
        self._wrote(endpoint, self._agent.specs.update_endpoint(endpoint))


_ENDPOINT_NAMES = {name for option in ENDPOINT_OPTIONS for name in option.names}


def _as_record(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as the record has them."""
    probe = Endpoint(id="x", network_id="x", host="x", mac_address="02:00:00:00:00:01", ofport=1, **fields)
    return {name: getattr(probe, name) for name in fields}


def _subnet(text: Any) -> str:
    try:
        found = ip_network(str(text))
    except ValueError as error:
        raise Invalid("--subnet", text, f"a range without host bits ({error})") from None
    if found.version != 4:
        raise Invalid("--subnet", text, "an IPv4 range")
    return str(found)
