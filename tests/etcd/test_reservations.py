"""Reserved addresses and pools in a real etcd: who gets which address, and who is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Exhausted, Invalid, WarrenError

FIRST, SECOND, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:99"
RESERVATIONS = [
    {"mac": FIRST, "ipv4_address": "10.0.0.2"},
    {"mac": SECOND, "ipv4_address": "10.0.0.12", "ipv6_address": "fd00::12"},
]
POOL = {"first": "10.0.0.100", "last": "10.0.0.102"}


@pytest.fixture
def specs(store: Store) -> Repository:
    return Repository(store)


def network(specs: Repository, **fields: Any) -> Network:
    draft = {"name": "contest", "ip_range": "10.0.0.0/24", "ipv6_range": "fd00::/64", "reservations": RESERVATIONS, **fields}
    return specs.create_network(draft)[0]


def created(specs: Repository, contest: Network, **fields: Any) -> Endpoint:
    return specs.create_endpoint({"network_id": contest.id, "host": "h1", **fields})[0]


def addresses(endpoint: Endpoint) -> tuple[str, str]:
    return str(endpoint.ipv4_address), str(endpoint.ipv6_address)


def test_a_mac_gets_its_addresses_and_nobody_else_does(specs: Repository) -> None:
    contest = network(specs)
    assert addresses(created(specs, contest)) == ("10.0.0.3", "fd00::2"), "2 is reserved"
    assert addresses(created(specs, contest, mac_address=FIRST.upper().replace(":", "-"))) == ("10.0.0.2", "fd00::3")
    for fields in ({"mac_address": OTHER}, {"mac_address": FIRST}):
        for address in ({"ipv4_address": "10.0.0.12"}, {"ipv6_address": "fd00::12"}):
            with pytest.raises(Conflict, match=f"is reserved for {SECOND}"):
                created(specs, contest, **fields, **address)
    assert addresses(created(specs, contest, mac_address=SECOND)) == ("10.0.0.12", "fd00::12")
    with pytest.raises(Conflict, match=r"10.0.0.12 is taken|belongs to endpoint"):
        created(specs, contest, mac_address=SECOND)


def test_an_address_that_is_stated_brings_the_mac(specs: Repository) -> None:
    """Docker allocates an address before it says a MAC."""
    contest = network(specs)
    endpoint = created(specs, contest, ipv4_address="10.0.0.12")
    assert (endpoint.mac_address, addresses(endpoint)) == (SECOND, ("10.0.0.12", "fd00::12"))


def test_a_mac_that_comes_from_an_address_is_not_a_reserved_one(specs: Repository) -> None:
    contest = network(specs, reservations=[{"mac": "02:57:0a:00:00:02", "ipv4_address": "10.0.0.50"}])
    assert created(specs, contest).mac_address != "02:57:0a:00:00:02"
    assert addresses(created(specs, contest, mac_address="02:57:0a:00:00:02"))[0] == "10.0.0.50"


def test_who_has_no_reservation_gets_an_address_of_the_pool_until_it_is_empty(specs: Repository) -> None:
    contest = network(
        specs, dhcp=True, dhcp_pool=POOL, reservations=[*RESERVATIONS, {"mac": OTHER, "ipv4_address": "10.0.0.101"}]
    )
    guests = [created(specs, contest, mac_address=f"52:54:00:00:01:0{i}") for i in range(2)]
    assert [addresses(guest)[0] for guest in guests] == ["10.0.0.100", "10.0.0.102"]
    with pytest.raises(Exhausted, match=r"network contest: no free address is left in 10.0.0.100 to 10.0.0.102"):
        created(specs, contest)
    assert addresses(created(specs, contest, mac_address=OTHER))[0] == "10.0.0.101"
    assert addresses(created(specs, contest, ipv4_address="10.0.0.7"))[0] == "10.0.0.7"
    assert [contest.lease_s(guest.ipv4_address) for guest in guests] == [30, 30]
    specs.delete_endpoint(contest.id, guests[0].id)
    assert addresses(created(specs, contest))[0] == "10.0.0.100", "it went back to the pool"


def test_a_network_may_give_addresses_by_reservation_alone(specs: Repository) -> None:
    contest = network(specs, dhcp_pool="none")
    with pytest.raises(Invalid, match=r"endpoint.ipv4_address.*a reservation for the MAC.*dhcp_pool: none"):
        created(specs, contest, mac_address=OTHER)
    assert addresses(created(specs, contest, mac_address=FIRST))[0] == "10.0.0.2"
    assert addresses(created(specs, contest, ipv4_address="10.0.0.44", mac_address=OTHER))[0] == "10.0.0.44"


def test_a_changed_endpoint_takes_no_reserved_address(specs: Repository) -> None:
    """The addresses of an inactive endpoint may change."""
    contest = network(specs)
    endpoint = created(specs, contest, mac_address=OTHER, active=False)
    for fields in ({"ipv4_address": "10.0.0.12"}, {"ipv6_address": "fd00::12"}):
        with pytest.raises(Conflict, match=f"is reserved for {SECOND}"):
            specs.update_endpoint(decode(Endpoint, endpoint.data() | fields, "endpoint"))
    specs.update_endpoint(decode(Endpoint, endpoint.data() | {"mac_address": SECOND, "ipv4_address": "10.0.0.12"}, "endpoint"))


def test_an_address_that_an_endpoint_has_becomes_reserved_for_that_endpoint_only(specs: Repository) -> None:
    contest = network(specs, reservations=[])
    endpoint = created(specs, contest, name="web", mac_address=FIRST, ipv4_address="10.0.0.20")

    def reserve(mac: str) -> Network:
        return decode(Network, contest.data() | {"reservations": [{"mac": mac, "ipv4_address": "10.0.0.20"}]}, "network")

    with pytest.raises(Conflict, match=rf"10.0.0.20 is reserved for {OTHER}, but belongs to endpoint web \({FIRST}\)"):
        specs.update_network(reserve(OTHER))
    specs.update_network(reserve(FIRST))
    specs.delete_endpoint(contest.id, endpoint.id)
    with pytest.raises(Conflict, match="is reserved for"):
        created(specs, contest, ipv4_address="10.0.0.20", mac_address=OTHER)


def test_an_address_is_reserved_or_given_never_both(specs: Repository) -> None:
    """Two writers at the same moment, many times."""
    for number in range(10, 30):
        contest = network(specs, name=f"contest{number}", reservations=[])
        address = f"10.0.0.{number}"
        reserved = decode(Network, contest.data() | {"reservations": [{"mac": FIRST, "ipv4_address": address}]}, "network")

        def outcome(write: Any) -> bool:
            try:
                write()
            except WarrenError:
                return False
            return True

        writes = (
            lambda reserved=reserved: specs.update_network(reserved),
            lambda contest=contest, address=address: created(specs, contest, ipv4_address=address, mac_address=OTHER),
        )
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(outcome, writes)) == [False, True]
