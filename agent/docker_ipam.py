"""Docker's IPAM driver: pools are Warren networks, addresses are Warren's.

An address that Docker asks for before there is an endpoint is held by an inactive endpoint, so no two engines ever get the same one.
Docker asks for IPv4 first, then for IPv6: the second is that of the endpoint which holds the first.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

from agent.docker_ledger import LABEL, Ledger
from agent.docker_options import named_network
from agent.service import Agent
from specs.errors import Invalid, WarrenError
from specs.records import Endpoint, Network

POOLS = ip_network("10.99.0.0/16")  # of networks that Docker makes without a subnet, a /24 each
GATEWAY = "com.docker.network.gateway"
Body = Mapping[str, Any]
Range = IPv4Network | IPv6Network


class Ipam:
    """The IPAM calls. Methods raise `WarrenError`."""

    def __init__(self, agent: Agent, ledger: Ledger) -> None:
        self._agent, self._ledger = agent, ledger
        self._half: dict[str, str] = {}  # network to the endpoint that holds an IPv4 address and is about to be asked for IPv6

    def request_pool(self, body: Body) -> dict[str, Any]:
        """A pool is a range of a Warren network, named by an option, or of one that CreateNetwork will make."""
        v6, pool = bool(body.get("V6")), body.get("Pool") or ""
        if body.get("SubPool"):
            raise Invalid("--ip-range", body["SubPool"], "nothing: Warren gives out the whole subnet")
        named = named_network(body.get("Options") or {})
        if named is not None:
            network = self._agent.network(named)
            there = range_of(network, v6)
            if there is None:
                expected = (
                    "a network with ipv6_range (no --ipv6 without)" if v6 else "a network with ip_range, or --ipam-driver null"
                )
                raise Invalid("warren.network", named, expected)
            if pool and _subnet(pool, v6) != str(there):
                raise Invalid("--subnet", pool, f"{there}, as network {network.name} has it, or nothing")
            return {"PoolID": f"network{'6' if v6 else ''}-{network.id}", "Pool": str(there), "Data": {}}
        pool = _subnet(pool, v6) if pool else _ula() if v6 else self._free_pool()
        pool_id = f"pool{'6' if v6 else ''}-{uuid.uuid4()}"
        self._ledger.keep_pool(pool_id, pool)
        return {"PoolID": pool_id, "Pool": pool, "Data": {}}

    def release_pool(self, body: Body) -> dict[str, Any]:
        """Forget a pool."""
        self._ledger.forget(str(body["PoolID"]))
        return {}

    def request_address(self, body: Body) -> dict[str, Any]:
        """An address for an endpoint to come, or the gateway's."""
        pool_id, wanted = str(body["PoolID"]), str(body.get("Address") or "")
        network = self._ledger.network_of_pool(pool_id)
        if network is None:  # CreateNetwork has not come yet
            pool = self._ledger.range_of(pool_id)
            return {"Address": f"{wanted or pool[1]}/{pool.prefixlen}", "Data": {}}
        v6 = pool_id.startswith(("network6-", "pool6-"))
        there = range_of(network, v6)
        assert there is not None
        if (body.get("Options") or {}).get("RequestAddressType") == GATEWAY:
            return {"Address": _gateway(network, v6, wanted), "Data": {}}
        held = self._sixth(network, wanted) if v6 else self._fourth(network, wanted)
        return {"Address": f"{held.ipv6_address if v6 else held.ipv4_address}/{there.prefixlen}", "Data": {}}

    def release_address(self, body: Body) -> dict[str, Any]:
        """Give an address back that no container has: the endpoint's own end has done so else."""
        address = str(body.get("Address", "")).partition("/")[0]
        network = self._ledger.network_of_pool(str(body["PoolID"]))
        held = self._ledger.held(network.id, address) if network is not None else None
        if held is not None:
            self._agent.endpoints.detach(held)
        return {}

    def _fourth(self, network: Network, wanted: str) -> Endpoint:
        held = None if wanted else self._ledger.take_ready(network)
        if held is None:
            draft = {"network_id": network.id, "labels": {LABEL: ""}}
            held, _ = self._ledger.create(draft | ({"ipv4_address": wanted} if wanted else {}))
        self._half[network.id] = held.id
        return held

    def _sixth(self, network: Network, wanted: str) -> Endpoint:
        held = self._agent.known.mine.get(self._half.pop(network.id, ""))
        if held is None or held.labels.get(LABEL) != "":
            draft = {"network_id": network.id, "labels": {LABEL: ""}}
            return self._ledger.create(draft | ({"ipv6_address": wanted} if wanted else {}))[0]
        if not wanted or wanted == str(held.ipv6_address):
            return held
        try:
            return self._ledger.update(held.model_copy(update={"ipv6_address": ip_address(wanted)}))
        except WarrenError:
            self._agent.endpoints.detach(held)  # Docker gives up, and does not give the IPv4 address back
            raise

    def _free_pool(self) -> str:
        taken: list[Any] = [n.ip_range for n in self._agent.known.snapshot.networks.values() if n.ip_range is not None]
        taken += [ip_network(entry["pool"]) for entry in self._ledger.pools().values()]
        for candidate in POOLS.subnets(new_prefix=24):
            if not any(candidate.overlaps(other) for other in taken if other.version == 4):
                return str(candidate)
        raise Invalid("--subnet", "nothing", f"a subnet: none is free in {POOLS}")


def range_of(network: Network, v6: bool) -> Range | None:
    """A network's range of a family."""
    return network.ipv6_range if v6 else network.ip_range


def subnet_of(data: Any, v6: bool = False) -> tuple[str, str | None]:
    """Range and gateway in CreateNetwork's IPv4Data or IPv6Data; "" for none."""
    given = (data or [{}])[0]
    pool = str(given.get("Pool") or "")
    return ("", None) if pool in ("", "0.0.0.0/0", "::/0") else (_subnet(pool, v6), given.get("Gateway") or None)


def _gateway(network: Network, v6: bool, wanted: str) -> str:
    found = network.ipv6_gateway if v6 else network.gateway
    if found is None and v6 and not wanted and network.ipv6_range is not None:
        # engines before 28 insist on one: the subnet-router anycast address (RFC 4291, 2.6.1), which no endpoint ever has
        return f"{network.ipv6_range[0]}/{network.ipv6_range.prefixlen}"
    if found is None:
        raise Invalid("--gateway", wanted, f"nothing: network {network.name} has no gateway")
    if wanted and ip_interface(wanted).ip != found.ip:
        raise Invalid("--gateway", wanted, f"{found.ip}, as network {network.name} has it")
    return str(found)


def _ula() -> str:
    """A range of its own (RFC 4193, 3.2.2: 40 random bits)."""
    random = secrets.token_hex(5)
    return str(ip_network(f"fd{random[:2]}:{random[2:6]}:{random[6:]}::/64"))


def _subnet(text: Any, v6: bool) -> str:
    try:
        found = ip_network(str(text))
    except ValueError as error:
        raise Invalid("--subnet", text, f"a range without host bits ({error})") from None
    if (found.version == 6) != v6:
        raise Invalid("--subnet", text, f"an IPv{6 if v6 else 4} range")
    return str(found)
