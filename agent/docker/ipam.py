"""Docker's IPAM driver: pools are Warren networks, addresses are Warren's. The id of a pool says of which part of the network the engine
wants its addresses (`--ip-range`), after a slash.

An address that Docker asks for before there is an endpoint is held by an inactive endpoint, so no two engines ever get the same one.
Docker asks for IPv4 first, then for IPv6: the second is that of the endpoint which holds the first.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from agent.core import Core
from agent.docker.aux_addresses import AuxAddresses
from agent.docker.ledger import LABEL, Ledger, Range
from agent.docker.options import named_network
from specs import keys
from specs.model.records import Endpoint, Network
from specs.store import bitmap as pools
from specs.store.pool import Pool
from warren.errors import Conflict, Exhausted, Invalid, WarrenError

POOLS = ip_network("10.99.0.0/16")  # of networks that Docker makes without a subnet, a /24 each
GATEWAY = "com.docker.network.gateway"
Body = Mapping[str, Any]
CHOICES = 20  # of an address that looks free; others may be faster


class Ipam:
    """The IPAM calls. Methods raise `WarrenError`."""

    def __init__(self, core: Core, ledger: Ledger, aux: AuxAddresses) -> None:
        self._core, self._ledger, self._aux = core, ledger, aux
        self._half: dict[str, str] = {}  # network to the endpoint that holds an IPv4 address and is about to be asked for IPv6

    def request_pool(self, body: Body) -> dict[str, Any]:
        """A pool is a range of a Warren network, named by an option, or of one that CreateNetwork will make."""
        v6, pool = bool(body.get("V6")), body.get("Pool") or ""
        named = named_network(body.get("Options") or {})
        if named is not None:
            network = self._core.lookup.network(named)
            there = range_of(network, v6)
            if there is None:
                expected = (
                    "a network with ipv6_range (no --ipv6 without)" if v6 else "a network with ip_range, or --ipam-driver null"
                )
                raise Invalid("warren.network", named, expected)
            if pool and _subnet(pool, v6) != str(there):
                raise Invalid("--subnet", pool, f"{there}, as network {network.name} has it, or nothing")
            part = _part(body.get("SubPool"), there)
            return {"PoolID": f"network{'6' if v6 else ''}-{network.id}{part}", "Pool": str(there), "Data": {}}
        pool = _subnet(pool, v6) if pool else _ula() if v6 else self._free_pool()
        pool_id, part = f"pool{'6' if v6 else ''}-{uuid.uuid4()}", _part(body.get("SubPool"), ip_network(pool))
        self._ledger.keep_pool(pool_id, pool)
        return {"PoolID": pool_id + part, "Pool": pool, "Data": {}}

    def release_pool(self, body: Body) -> dict[str, Any]:
        """Forget a pool."""
        self._ledger.forget(_pool(body)[0])
        return {}

    def request_address(self, body: Body) -> dict[str, Any]:
        """An address for an endpoint to come, or the gateway's."""
        (pool_id, within), wanted = _pool(body), str(body.get("Address") or "")
        network = self._ledger.network_of_pool(pool_id)
        if network is None:  # CreateNetwork has not come yet
            pool = self._ledger.range_of(pool_id)
            return {"Address": f"{wanted or pool[1]}/{pool.prefixlen}", "Data": {}}
        v6 = pool_id.startswith(("network6-", "pool6-"))
        there = range_of(network, v6)
        assert there is not None
        if (body.get("Options") or {}).get("RequestAddressType") == GATEWAY:
            return {"Address": _gateway(network, v6, wanted), "Data": {}}
        # another engine's network may have reserved the same; a container is refused later. Who has it is asked of the whole network, so
        # only about one that somebody has
        given_out = bool(wanted) and pools.taken(self._blocks(network, v6), int(ip_address(wanted)) - int(there[0]))
        if given_out and self._aux.reserved(network, wanted):
            return {"Address": f"{wanted}/{there.prefixlen}", "Data": {}}
        held = self._hold_ipv6(network, wanted, within) if v6 else self._hold_ipv4(network, wanted, within)
        return {"Address": f"{held.ipv6_address if v6 else held.ipv4_address}/{there.prefixlen}", "Data": {}}

    def release_address(self, body: Body) -> dict[str, Any]:
        """Give an address back that no container has: the endpoint's own end has done so else."""
        address = str(body.get("Address", "")).partition("/")[0]
        network = self._ledger.network_of_pool(_pool(body)[0])
        held = self._ledger.held(network.id, address) if network is not None else None
        if held is not None:
            self._core.endpoints.detach(held)
        return {}

    def _hold_ipv4(self, network: Network, wanted: str, within: Range | None) -> Endpoint:
        held = self._ledger.take_preallocated(network, (wanted,) if wanted else (), within) or self._held(
            network, False, wanted, within
        )
        self._half[network.id] = held.id
        return held

    def _hold_ipv6(self, network: Network, wanted: str, within: Range | None) -> Endpoint:
        held = self._core.cache.view.local_endpoints.get(self._half.pop(network.id, ""))
        if held is None or held.labels.get(LABEL) != "":
            return self._held(network, True, wanted, within)
        if wanted == str(held.ipv6_address) or (not wanted and (within is None or held.ipv6_address in within)):
            return held
        try:
            idle = self._ledger.recreate(held) if held.active else held
            return self._take(
                network,
                True,
                wanted,
                within,
                lambda a: self._ledger.update(idle.model_copy(update={"ipv6_address": ip_address(a)})),
            )
        except WarrenError:
            self._core.endpoints.detach(held)  # Docker gives up, and does not give the IPv4 address back
            raise

    def _held(self, network: Network, v6: bool, wanted: str, within: Range | None) -> Endpoint:
        """A new endpoint that holds an address: the one that is wanted, or one of the part of the network that the engine asks for."""
        draft, field = {"network_id": network.id, "labels": {LABEL: ""}}, "ipv6_address" if v6 else "ipv4_address"
        if not wanted and within is None:
            return self._ledger.create(draft)[0]
        return self._take(network, v6, wanted, within, lambda a: self._ledger.create({**draft, field: a})[0])

    def _take(self, network: Network, v6: bool, wanted: str, within: Range | None, take: Callable[[str], Endpoint]) -> Endpoint:
        """Have an address taken. Raises `Conflict` for one that was wanted; others may be faster with one that was free a moment ago."""
        for left in reversed(range(1 if wanted else CHOICES)):
            address = wanted or self._free(network, v6, within)
            try:
                with self._ledger.cleared(network, (address,)):
                    return take(address)
            except Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _free(self, network: Network, v6: bool, within: Range | None) -> str:
        """The lowest free address of a part of a network, at this moment."""
        there = range_of(network, v6)
        assert there is not None
        part, base = within or there, int(there[0])
        gateway = network.ipv6_gateway if v6 else network.gateway
        first, last = max(int(part[0]) - base, 1), min(int(part[-1]) - base, there.num_addresses - (1 if v6 else 2))
        number = pools.lowest_free(self._blocks(network, v6), first, last, {int(gateway.ip) - base} if gateway else ())
        if number is None:
            raise Exhausted(f"network {network.name}: no free address is left in {part}")
        return str(there[number])

    def _blocks(self, network: Network, v6: bool) -> dict[int, int]:
        """What is given out of a network's range of a family, at this moment."""
        prefix = (keys.pool_v6 if v6 else keys.pool_v4)(network.id)
        return Pool.read(prefix, self._core.repository.store.list(prefix)[1]).blocks

    def _free_pool(self) -> str:
        taken: list[Any] = [n.ip_range for n in self._core.cache.view.snapshot.networks.values() if n.ip_range is not None]
        taken += [ip_network(entry["pool"]) for entry in self._ledger.pools().values()]
        for candidate in POOLS.subnets(new_prefix=24):
            if not any(candidate.overlaps(other) for other in taken if other.version == 4):
                return str(candidate)
        raise Exhausted(f"no free subnet is left in {POOLS}: say --subnet")


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


def _pool(body: Body) -> tuple[str, Range | None]:
    """The id of a pool as the ledger has it, and the part of it that the engine wants its addresses of."""
    pool_id, _, part = str(body["PoolID"]).partition("/")
    return pool_id, ip_network(part) if part else None


def _part(sub: Any, pool: Range) -> str:
    """What `--ip-range` adds to the id of a pool."""
    if not sub:
        return ""
    part = ip_network(_subnet(sub, pool.version == 6, "--ip-range"))
    if part.version != pool.version or not pool[0] <= part[0] <= part[-1] <= pool[-1]:  # type: ignore[operator]
        raise Invalid("--ip-range", sub, f"a part of {pool}")
    return f"/{part}"


def _ula() -> str:
    """A range of its own (RFC 4193, 3.2.2: 40 random bits)."""
    random = secrets.token_hex(5)
    return str(ip_network(f"fd{random[:2]}:{random[2:6]}:{random[6:]}::/64"))


def _subnet(text: Any, v6: bool, option: str = "--subnet") -> str:
    try:
        found = ip_network(str(text))
    except ValueError as error:
        raise Invalid(option, text, f"a range without host bits ({error})") from None
    if (found.version == 6) != v6:
        raise Invalid(option, text, f"an IPv{6 if v6 else 4} range")
    return str(found)
