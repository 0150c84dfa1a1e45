"""Writes tunnel profiles: name, UDP port and number are taken in the transaction that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.tunnels import VXLAN_UDP_PORT
from specs import keys
from specs.model.base import decode
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import DEFAULT, OF_SITE, PROFILES_LIMIT, Profile, all_profiles
from specs.paths import largest_mtu
from specs.smartos import rule
from specs.snapshot import Snapshot, snapshot
from specs.store import bitmap
from specs.store.pool import Pool
from specs.store.tenants import revision
from specs.store.values import Compare, Delete, Entry, Get, Put, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import MISSING, Conflict, Exhausted, Invalid, NotFound

_HOSTS = "all, site:NAME, or names of hosts, which may come later"
_LARGEST = 65_535


class ProfileWriter(Writer):
    """The tunnel profiles of a store."""

    def put_profile(self, draft: dict[str, Any]) -> tuple[Profile, int]:
        """Create or change a profile; return it with the revision. Raises `Invalid`, `Exhausted`, and `Conflict` for a port that is taken."""
        checked, has_port = _checked(draft)

        def attempt() -> tuple[Profile, int] | None:
            entry, state, compares = self._read_profiles(checked.name)
            old = state.profiles.get(checked.name)
            new = dated(_allocated(checked, has_port, old, state), old)
            if entry is not None and old == new:
                return new, entry.mod_revision
            _check_places(new, state)
            self._check_port_free(new, state)
            outcome = self.commit(compares, [Put(keys.profile(new.name), new.encode()), Put(keys.claim_profiles(), new.name)])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_profile(self, name: str) -> int:
        """Delete a profile; `default` is then as it is without a record. Raises `NotFound`, and `Conflict` while networks name it. Returns the revision."""

        def attempt() -> int | None:
            entry, state, compares = self._read_profiles(name)
            if entry is None:
                raise NotFound("profile", name)
            holder = next((p.name for p in state.profiles.values() if p.port == VXLAN_UDP_PORT and p.name != DEFAULT), None)
            if name == DEFAULT and holder is not None:
                raise Conflict(
                    f"udp port {VXLAN_UDP_PORT}, that of {DEFAULT} without a record, is that of profile {holder}",
                    field="port",
                    holder=holder,
                )
            entries, made = self.store.txn((), (Get(keys.NETWORKS, prefix=True), Get(keys.claim_networks()))).found
            compares.append(Unchanged(keys.claim_networks(), revision(made)))
            networks = (decoded(Network, each) for each in entries)
            naming = sorted(network.name for network in networks if network is not None and network.profile == name)
            if naming and name != DEFAULT:
                raise Conflict(f"profile {name} has network{'s' * (len(naming) > 1)} {', '.join(naming[:5])}", holder=naming[0])
            outcome = self.commit(compares, [Delete(keys.profile(name)), Put(keys.claim_profiles(), name)])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _read_profiles(self, name: str) -> tuple[Entry | None, Snapshot, list[Compare]]:
        """The profile's entry, what profiles depend on, and the compares that hold while no profile and no site is written."""
        prefixes = (keys.PROFILES, keys.SITES, keys.HOSTS)
        reads = [*(Get(prefix, prefix=True) for prefix in prefixes), Get(keys.claim_profiles())]
        *groups, claim = self.store.txn((), reads).found
        entry = next((each for each in groups[0] if each.key == keys.profile(name)), None)
        state = snapshot((e.key, e.value, e.create_revision) for entries in groups for e in entries)
        compares: list[Compare] = [Unchanged(keys.profile(name), entry.mod_revision if entry else 0)]
        compares.append(Unchanged(keys.claim_profiles(), revision(claim)))
        return entry, state, [*compares, *(Unchanged(each.key, each.mod_revision) for each in groups[1])]

    def _check_port_free(self, new: Profile, state: Snapshot) -> None:
        """Raises `Conflict` if something else has the profile's UDP port."""
        for other in all_profiles(state.profiles):
            if other.name != new.name and other.port == new.port:
                raise Conflict(f"udp port {new.port} is that of profile {other.name}", field="port", holder=other.name)
        for host in state.hosts.values():
            if host.outside is not None and host.outside.port == new.port:
                raise Conflict(
                    f"udp port {new.port} is that of host {host.name}'s encrypted tunnels", field="port", holder=host.name
                )
        if (old := state.profiles.get(new.name)) is not None and old.port == new.port:
            return
        holder = self._holder_of_port(new.port)
        if holder is not None:
            raise Conflict(f"udp port {new.port} is published {holder}", field="port")

    def _holder_of_port(self, port: int) -> str | None:
        """Where a UDP port of hosts leads to an endpoint or a service already; None if nowhere."""
        services, published = (self.store.list(prefix)[1] for prefix in (keys.pool_services("udp"), keys.POOL_PUBLISHED))
        if bitmap.taken(Pool.read(keys.pool_services("udp"), services).blocks, port):
            return "by a service"
        hosts = {entry.key.split("/")[2] for entry in published}
        for host in sorted(hosts):
            prefix = keys.pool_published(host, "udp")
            pool = Pool.read(prefix, [entry for entry in published if entry.key.startswith(prefix)])
            if bitmap.taken(pool.blocks, port):
                return f"on host {host}"
        return None


def _checked(draft: Mapping[str, Any]) -> tuple[Profile, bool]:
    """The profile of a draft, and whether the draft states a port. Raises `Invalid`."""
    data = {name: value for name, value in draft.items() if value is not None}
    if data.get("name") == DEFAULT:
        data.setdefault("hosts", ["all"])
    if "hosts" not in data:
        raise Invalid("profile.hosts", MISSING, _HOSTS)
    profile = decode(Profile, {"port": VXLAN_UDP_PORT, **data}, "profile")
    if profile.rule is not None:
        rule.parse(profile.rule)
    return profile, "port" in data


def _allocated(profile: Profile, has_port: bool, old: Profile | None, state: Snapshot) -> Profile:
    """The profile with its number, and a port where it states none."""
    others = [each for each in all_profiles(state.profiles) if each.name != profile.name]
    if old is not None:
        return profile.model_copy(update={"number": old.number} | ({} if has_port else {"port": old.port}))
    number = 0 if profile.name == DEFAULT else _free_number(others)
    return profile.model_copy(update={"number": number} | ({} if has_port else {"port": _free_port(others, state)}))


def _free_port(others: list[Profile], state: Snapshot) -> int:
    taken = {profile.port for profile in others} | {
        host.outside.port for host in state.hosts.values() if host.outside is not None
    }
    return next(port for port in range(VXLAN_UDP_PORT, _LARGEST + 1) if port not in taken)


def _free_number(others: list[Profile]) -> int:
    taken = {profile.number for profile in others}
    for number in range(1, PROFILES_LIMIT + 1):
        if number not in taken:
            return number
    raise Exhausted(f"there are {PROFILES_LIMIT} tunnel profiles, and no more are possible")


def _check_places(new: Profile, state: Snapshot) -> None:
    """Raises `Invalid` or `Conflict` for places that do not exist, and for what the hosts that are there cannot carry."""
    for site in new.sites:
        if site not in state.sites:
            raise Invalid("profile.hosts", f"site:{site}", f"a site that exists (warren site create {site})")
    hosts = [host for _, host in sorted(state.hosts.items()) if new.has(host)]
    if new.encryption == "never" and (other := next((h for h in hosts if h.site != hosts[0].site), None)) is not None:
        pair = f"{hosts[0].name} (site {hosts[0].site or 'none'}) and {other.name} (site {other.site or 'none'})"
        problem = f"encryption never, and hosts of more than one site: {pair}; nothing goes from site to site in clear text"
        raise Conflict(f"profile {new.name}: {problem}", field="encryption")
    _check_outsides(new, hosts)
    _check_listen(new, hosts)
    largest = largest_mtu(hosts, state.sites, new)
    if new.mtu != "auto" and largest is not None and new.mtu > largest:
        raise Invalid("profile.mtu", new.mtu, f"auto, or at most {largest} bytes, which the best path between its hosts carries")


def _check_outsides(new: Profile, hosts: Sequence[Host]) -> None:
    """Raises `Invalid` for a host, named itself or by its site, whose packets are to be encrypted although it has no outside address. `all` names none:
    `warren status` tells of those."""
    for host in hosts:
        if host.outside is not None or not {host.name, f"{OF_SITE}{host.site}"} & set(new.hosts) or new.encryption == "never":
            continue
        far = next((other for other in hosts if other.site != host.site), None)
        if new.encryption == "always" or far is not None:
            reason = "encryption is always" if far is None else f"packets to {far.name} (site {far.site or 'none'}) are encrypted"
            raise Invalid("profile.hosts", host.name, f"hosts with an outside address (WARREN_OUTSIDE on {host.name}): {reason}")


def _check_listen(new: Profile, hosts: Sequence[Host]) -> None:
    """Raises `Invalid` for an address to listen at that none of the hosts has, if no host is to come."""
    if new.listen is None or new.listen.is_unspecified or set(new.hosts) - {host.name for host in hosts}:
        return
    if new.listen not in {host.vtep for host in hosts}:
        addresses = ", ".join(str(host.vtep) for host in hosts)
        raise Invalid(
            "profile.listen", str(new.listen), f"0.0.0.0 or the address inside its site of one of the hosts: {addresses}"
        )
