"""Docker's IPAM driver: pools are Warren networks, and Warren allocates the addresses.

The id of a pool names, after a slash, the part of the network that the engine takes addresses from (`--ip-range`). An
address that Docker requests before its endpoint exists is held by an inactive endpoint, so two engines never get the same
one. Docker requests IPv4 first and IPv6 second; the second request gets the address of the endpoint that holds the first.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from agent.core import Core
from agent.docker.aux_addresses import AuxAddresses
from agent.docker.ledger import LABEL, Ledger
from agent.docker.options import named_network
from pipeline.protocols import IpNetwork
from specs import keys
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.ranges import check_range
from specs.store import bitmap
from specs.store.pool import Pool
from specs.store.reserved import bounds, require_address, set_aside
from warren.errors import Conflict, Exhausted, Invalid, WarrenError

POOLS = ip_network("10.99.0.0/16")  # for networks that Docker makes without a subnet: a /24 each
SPACE = "warren-"  # how Warren's address spaces begin
GATEWAY = "com.docker.network.gateway"
EngineBody = Mapping[str, Any]
CHOICES = 20  # attempts to take a free address, because other agents may be faster


class Ipam:
    """The IPAM driver of one host. Methods raise `WarrenError`."""

    def __init__(self, core: Core, ledger: Ledger, aux: AuxAddresses) -> None:
        self._core, self._ledger, self._aux = core, ledger, aux
        self._half: dict[
            str, str
        ] = {}  # by network: the endpoint that holds an IPv4 address, while Docker is about to request IPv6

    def request_pool(self, body: EngineBody) -> dict[str, Any]:
        """Return a pool: the range of a Warren network that an option names, or of one that CreateNetwork is going to make."""
        v6, pool = bool(body.get("V6")), body.get("Pool") or ""
        named = named_network(body.get("Options") or {})
        if named is not None:
            network = self._core.lookup.network(named)
            whole = range_of(network, v6)
            if whole is None:
                expected = (
                    "a network with ipv6_range (no --ipv6 without)" if v6 else "a network with ip_range, or --ipam-driver null"
                )
                raise Invalid("warren.network", named, expected)
            if pool and _subnet(pool, v6) != str(whole):
                raise Invalid("--subnet", pool, f"{whole}, as network {network.name} has it, or nothing")
            part, pool_id = _part(body.get("SubPool"), whole), f"network{'6' if v6 else ''}-{network.id}"
            self._ledger.keep_pool(pool_id, str(whole), named=network.id)  # CreateNetwork need not name the network again
            return {"PoolID": pool_id + part, "Pool": str(whole), "Data": {}}
        if pool:
            check_range(ip_network(_subnet(pool, v6)), "--subnet")
        chosen = not pool
        pool = _subnet(pool, v6) if pool else _ula() if v6 else self._free_pool()
        pool_id, part = f"pool{'6' if v6 else ''}-{uuid.uuid4()}", _part(body.get("SubPool"), ip_network(pool))
        self._ledger.keep_pool(pool_id, pool, chosen)
        return {"PoolID": pool_id + part, "Pool": pool, "Data": {}}

    def release_pool(self, body: EngineBody) -> dict[str, Any]:
        """Forget a pool."""
        self._ledger.forget(_pool(body)[0])
        return {}

    def request_address(self, body: EngineBody) -> dict[str, Any]:
        """Return an address for an endpoint that does not exist yet, or the gateway's address."""
        (pool_id, within), requested = _pool(body), str(body.get("Address") or "")
        network = self._ledger.network_of_pool(pool_id)
        if network is None:  # CreateNetwork was not called yet
            pool = self._ledger.range_of(pool_id)
            return {"Address": f"{requested or pool[1]}/{pool.prefixlen}", "Data": {}}
        v6 = pool_id.startswith(("network6-", "pool6-"))
        whole = range_of(network, v6)
        assert whole is not None
        if (body.get("Options") or {}).get("RequestAddressType") == GATEWAY:
            return {"Address": _gateway(network, v6, requested), "Data": {}}
        # Another engine's network may have reserved the address too; only a container is refused, and later. Finding out reads all
        # endpoints of the network, so ask only about an address that is taken.
        given_out = bool(requested) and bitmap.taken(self._blocks(network, v6), int(ip_address(requested)) - int(whole[0]))
        if given_out and self._aux.reserved(network, requested):
            return {"Address": f"{requested}/{whole.prefixlen}", "Data": {}}
        held = self._hold_ipv6(network, requested, within) if v6 else self._hold_ipv4(network, requested, within)
        return {"Address": f"{held.ipv6_address if v6 else held.ipv4_address}/{whole.prefixlen}", "Data": {}}

    def release_address(self, body: EngineBody) -> dict[str, Any]:
        """Give back an address that no container took. Deleting an endpoint gives its own address back."""
        address = str(body.get("Address", "")).partition("/")[0]
        network = self._ledger.network_of_pool(_pool(body)[0])
        held = self._ledger.held(network.id, address) if network is not None else None
        if held is not None:
            self._core.endpoints.detach(held)
        return {}

    def _hold_ipv4(self, network: Network, requested: str, within: IpNetwork | None) -> Endpoint:
        held = self._ledger.take_preallocated(network, (requested,) if requested else (), within) or self._held(
            network, False, requested, within
        )
        self._half[network.id] = held.id
        return held

    def _hold_ipv6(self, network: Network, requested: str, within: IpNetwork | None) -> Endpoint:
        held = self._core.cache.view.local_endpoints.get(self._half.pop(network.id, ""))
        if held is None or held.labels.get(LABEL) != "":
            return self._held(network, True, requested, within)
        if requested == str(held.ipv6_address) or (not requested and (within is None or held.ipv6_address in within)):
            return held
        try:
            idle = self._ledger.recreate(held) if held.active else held
            return self._take(
                network,
                True,
                requested,
                within,
                lambda a: self._ledger.update(idle.model_copy(update={"ipv6_address": ip_address(a)})),
            )
        except WarrenError:
            self._core.endpoints.detach(held)  # Docker gives up without releasing the IPv4 address
            raise

    def _held(self, network: Network, v6: bool, requested: str, within: IpNetwork | None) -> Endpoint:
        """Return a new endpoint that holds an address: the one requested, or one from the part of the network that the
        engine takes addresses from."""
        draft, field = {"network_id": network.id, "labels": {LABEL: ""}}, "ipv6_address" if v6 else "ipv4_address"
        if not requested and within is None:
            return self._ledger.create(draft)[0]
        return self._take(network, v6, requested, within, lambda a: self._ledger.create({**draft, field: a})[0])

    def _take(
        self, network: Network, v6: bool, requested: str, within: IpNetwork | None, take: Callable[[str], Endpoint]
    ) -> Endpoint:
        """Allocate an address. Raises `Conflict` when the engine asked for it; when the choice is ours and another agent was
        faster, tries the next one."""
        for left in reversed(range(1 if requested else CHOICES)):
            address = requested or self._free(network, v6, within)
            try:
                with self._ledger.cleared(network, (address,)):
                    return take(address)
            except Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _free(self, network: Network, v6: bool, within: IpNetwork | None) -> str:
        """Return the lowest free address of a part of a network at this moment."""
        whole = range_of(network, v6)
        assert whole is not None
        part, base = within or whole, int(whole[0])
        require_address(network, whole.version)
        lowest, highest = bounds(network, whole)
        first, last = max(int(part[0]) - base, lowest), min(int(part[-1]) - base, highest)
        number = bitmap.lowest_free(self._blocks(network, v6), first, last, set_aside(network, whole))
        if number is None:
            raise Exhausted(f"network {network.name}: no free address is left in {part}")
        return str(whole[number])

    def _blocks(self, network: Network, v6: bool) -> dict[int, int]:
        """Return the blocks that a network allocates its addresses of a family from, at this moment."""
        prefix = (keys.pool_v6 if v6 else keys.pool_v4)(network.id)
        return Pool.read(prefix, self._core.repository.store.list(prefix)[1]).blocks

    def _free_pool(self) -> str:
        snapshot = self._core.cache.view.snapshot
        taken: list[Any] = [n.ip_range for n in snapshot.networks.values() if n.ip_range is not None]
        taken += [ip_network(entry["pool"]) for entry in self._ledger.pools().values()]
        taken += [used.prefix for host in snapshot.hostnets.values() for used in host.prefixes if used.kind != "route"]
        for candidate in POOLS.subnets(new_prefix=24):
            if not any(candidate.overlaps(other) for other in taken if other.version == 4):
                return str(candidate)
        raise Exhausted(f"no free subnet is left in {POOLS}: say --subnet")


def range_of(network: Network, v6: bool) -> IpNetwork | None:
    """Return a network's range of a family."""
    return network.ipv6_range if v6 else network.ip_range


def subnet_of(data: Any, v6: bool = False) -> tuple[str, str | None]:
    """Return range and gateway from CreateNetwork's IPv4Data or IPv6Data; "" where there is none."""
    given = (data or [{}])[0]
    if len(data or ()) > 1:
        raise Invalid("--subnet", str(data[1].get("Pool")), f"one IPv{6 if v6 else 4} subnet")
    pool = str(given.get("Pool") or "")
    return ("", None) if pool in ("", "0.0.0.0/0", "::/0") else (_subnet(pool, v6), given.get("Gateway") or None)


def check_pool(given: str, actual: IpNetwork | None, network: Network, entry: Mapping[str, Any]) -> None:
    """Raises `Invalid` unless a pool of Docker's is the range of the network, or one that Warren chose while nothing named the network."""
    if entry.get("named") not in (None, network.id):
        raise Invalid("--ipam-opt", entry["named"], f"{network.id}, the network that --opt names")
    if given != str(actual) and not (entry.get("chosen") and actual is not None):
        expected = f"{actual}, as network {network.name} has it (--ipam-driver warren, or sand, takes it from there)"
        raise Invalid("--subnet", given, expected)


def from_us(data: Any) -> bool:
    """Return whether Warren's IPAM driver gave the pool of IPv4Data or IPv6Data, and not Docker's own."""
    return str((data or [{}])[0].get("AddressSpace") or "").startswith(SPACE)


def _gateway(network: Network, v6: bool, requested: str) -> str:
    gateway = network.ipv6_gateway if v6 else network.gateway
    if gateway is None and v6 and not requested and network.ipv6_range is not None:
        # engines before 28 insist on one: the subnet-router anycast address (RFC 4291, 2.6.1), which no endpoint ever has
        return f"{network.ipv6_range[0]}/{network.ipv6_range.prefixlen}"
    if gateway is None:
        raise Invalid("--gateway", requested, f"nothing: network {network.name} has no gateway")
    if requested and ip_interface(requested).ip != gateway.ip:
        raise Invalid("--gateway", requested, f"{gateway.ip}, as network {network.name} has it")
    return str(gateway)


def _pool(body: EngineBody) -> tuple[str, IpNetwork | None]:
    """Split the id of a pool into the id in the ledger and the part that the engine takes addresses from."""
    pool_id, _, part = str(body["PoolID"]).partition("/")
    return pool_id, ip_network(part) if part else None


def _part(sub: Any, pool: IpNetwork) -> str:
    """Return what `--ip-range` adds to the id of a pool."""
    if not sub:
        return ""
    part = ip_network(_subnet(sub, pool.version == 6, "--ip-range"))
    if part.version != pool.version or not pool[0] <= part[0] <= part[-1] <= pool[-1]:  # type: ignore[operator]
        raise Invalid("--ip-range", sub, f"a part of {pool}")
    return f"/{part}"


def _ula() -> str:
    """Return a random unique local range (RFC 4193, section 3.2.2: 40 random bits)."""
    random = secrets.token_hex(5)
    return str(ip_network(f"fd{random[:2]}:{random[2:6]}:{random[6:]}::/64"))


def _subnet(text: Any, v6: bool, option: str = "--subnet") -> str:
    try:
        subnet = ip_network(str(text))
    except ValueError as error:
        raise Invalid(option, text, f"a range without host bits ({error})") from None
    if (subnet.version == 6) != v6:
        raise Invalid(option, text, f"an IPv{6 if v6 else 4} range")
    return str(subnet)
