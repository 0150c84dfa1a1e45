"""Tunnel profiles in etcd: ports and numbers have one owner, whatever writers race; what cannot work is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from specs.model.base import decode
from specs.model.host import Host
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid, NotFound, WarrenError


def put_host(repository: Repository, name: str, number: int, **fields: Any) -> None:
    repository.put_host(decode(Host, {"name": name, "vtep": f"192.0.2.{number}", **fields}))


def test_ports_and_numbers_are_allocated(store: Store) -> None:
    repository = Repository(store)
    first, _ = repository.put_profile({"name": "a", "hosts": "all"})
    second, _ = repository.put_profile({"name": "b", "hosts": ["h1", "h9"]})
    assert [(p.port, p.number, p.hosts) for p in (first, second)] == [(4790, 1, ("all",)), (4791, 2, ("h1", "h9"))]
    repository.delete_profile("a")
    third, _ = repository.put_profile({"name": "c", "hosts": "h1, h2"})
    assert (third.port, third.number, third.hosts) == (4790, 1, ("h1", "h2"))
    changed, _ = repository.put_profile({"name": "c", "hosts": "all", "encryption": "always"})
    assert (changed.port, changed.number, changed.created_at) == (third.port, third.number, third.created_at)
    default, _ = repository.put_profile({"name": "default", "port": 5000})
    assert (default.port, default.number, default.hosts) == (5000, 0, ("all",))
    assert repository.put_profile({"name": "d", "hosts": "all"})[0].port == 4789
    with pytest.raises(Conflict, match="profile d"):
        repository.delete_profile("default")
    repository.delete_profile("d")
    repository.delete_profile("default")


def test_what_is_taken_or_does_not_exist_is_refused(store: Store) -> None:
    repository = Repository(store)
    put_host(repository, "h1", 1, outside={"address": "203.0.113.1", "port": 4795})
    network, _ = repository.create_network({"name": "n", "ip_range": "10.0.0.0/24", "mode": "nat"})
    publish = [{"host_port": 4800, "port": 53, "proto": "udp"}]
    repository.create_endpoint({"network_id": network.id, "host": "h1", "name": "e", "publish": publish})
    repository.put_service({"name": "s", "network": "n", "host_port": 4801, "port": 53, "proto": "udp", "label": "x"})
    for port, holder in ((4789, "profile default"), (4795, "host h1"), (4800, "host h1"), (4801, "service")):
        with pytest.raises(Conflict, match=holder):
            repository.put_profile({"name": "p", "hosts": "all", "port": port})
    profile, _ = repository.put_profile({"name": "p", "hosts": "all", "port": 4802})
    taken = {"network_id": network.id, "host": "h1", "name": "f", "publish": [{"host_port": 4802, "port": 1, "proto": "udp"}]}
    with pytest.raises(Conflict, match="profile p"):
        repository.create_endpoint(taken)
    repository.create_endpoint(taken | {"publish": [{"host_port": 4802, "port": 1}]})
    for fields, path in (
        ({"hosts": None}, "profile.hosts"), ({"hosts": []}, "profile.hosts"), ({"hosts": ""}, "profile.hosts"), ({"hosts": "site:"}, "profile.hosts"),
        ({"hosts": "site:nowhere"}, "profile.hosts"), ({"hosts": ["h1", 7]}, "profile.hosts[1]"), ({"port": 0}, "profile.port"), ({"port": 65536}, "profile.port"),
        ({"mtu": 1447}, "profile.mtu"), ({"mtu": 575}, "profile.mtu"), ({"mtu": "big"}, "profile.mtu"), ({"encryption": "sometimes"}, "profile.encryption"),
        ({"cipher": "rot13"}, "profile.cipher"), ({"listen": "here"}, "profile.listen"), ({"name": "x y"}, "profile.name"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as error:
            repository.put_profile({"name": "q", "hosts": "all"} | fields)
        assert error.value.path.removesuffix("[1]").startswith(path.removesuffix("[1]")), fields
    assert repository.put_profile({"name": "p", "hosts": "all", "mtu": 1446})[0].port == profile.port
    with pytest.raises(NotFound):
        repository.delete_profile("q")


def test_a_site_that_a_profile_names_stays(store: Store) -> None:
    repository = Repository(store)
    repository.put_site({"name": "east"})
    repository.put_profile({"name": "p", "hosts": "site:east"})
    with pytest.raises(Conflict, match="profile p"):
        repository.delete_site("east")
    repository.delete_profile("p")
    repository.delete_site("east")


def test_nothing_goes_from_site_to_site_in_clear_text(store: Store) -> None:
    repository = Repository(store)
    for number, site in enumerate(("east", "east", "west"), 1):
        if number != 2:
            repository.put_site({"name": site})
        put_host(repository, f"h{number}", number, site=site)
    for hosts in ("all", "h1,h3", "h2,site:west"):
        with pytest.raises(Conflict, match=r"site east.*site west"):
            repository.put_profile({"name": "p", "hosts": hosts, "encryption": "never"})
    repository.put_profile({"name": "p", "hosts": "site:east,h9", "encryption": "never"})


def test_a_host_without_an_outside_address_that_needs_one_is_refused_by_name(store: Store) -> None:
    """Named itself or by its site. `all` refuses none, nor does a host that is to come, nor a profile whose hosts are in one site."""
    repository = Repository(store)
    for site in ("east", "west"):
        repository.put_site({"name": site})
    put_host(repository, "h1", 1, site="east", outside={"address": "203.0.113.1"})
    put_host(repository, "h2", 2, site="east")
    put_host(repository, "h3", 3, site="west", outside={"address": "203.0.113.3"})
    put_host(repository, "h4", 4)
    for hosts, encryption, refused in (
        ("h1,h2,h3", "auto", "h2"), ("h2,site:west", "auto", "h2"), ("site:east,h3", "auto", "h2"), ("h1,h4", "auto", "h4"), ("all,h4", "auto", "h4"),
        ("h1,h2", "always", "h2"), ("site:east", "always", "h2"), ("h4", "always", "h4"), ("h9,h2", "always", "h2"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match="outside address") as error:
            repository.put_profile({"name": "p", "hosts": hosts, "encryption": encryption})
        assert (error.value.path, error.value.value) == ("profile.hosts", refused), hosts
    for hosts, encryption in (
        ("h1,h3", "auto"), ("h1,h2", "auto"), ("h4", "auto"), ("h1,h3,h9", "always"), ("all", "always"), ("all", "auto"), ("site:west", "always"), ("h1,h2", "never"),
    ):  # fmt: skip
        repository.put_profile({"name": "p", "hosts": hosts, "encryption": encryption})


def test_an_address_to_listen_at_is_that_of_a_host(store: Store) -> None:
    repository = Repository(store)
    for number in (1, 2):
        put_host(repository, f"h{number}", number)
    for hosts in ("h1", "h1,h2"):
        with pytest.raises(Invalid) as error:
            repository.put_profile({"name": "p", "hosts": hosts, "listen": "203.0.113.77"})
        assert error.value.path == "profile.listen"
    with pytest.raises(Invalid):
        repository.put_profile({"name": "p", "hosts": "h2", "listen": "192.0.2.1"})
    for hosts, listen in (
        ("h1,h2", "192.0.2.2"),
        ("h1", "0.0.0.0"),
        ("h1", "::"),
        ("h1,h9", "203.0.113.77"),
        ("all", "203.0.113.77"),
    ):
        repository.put_profile({"name": "p", "hosts": hosts, "listen": listen})


def test_the_same_vni_in_two_profiles(store: Store) -> None:
    repository = Repository(store)
    for name in ("a", "b"):
        repository.put_profile({"name": name, "hosts": "all"})
    networks = [repository.create_network({"name": f"n-{p}", "profile": p, "vxlan_vni": 7})[0] for p in ("a", "b", "default")]
    assert [(n.profile, n.profile_number, n.number) for n in networks] == [
        ("a", 1, 1 << 24 | 7),
        ("b", 2, 2 << 24 | 7),
        (None, 0, 7),
    ]
    with pytest.raises(Conflict, match="n-b"):
        repository.create_network({"name": "again", "profile": "b", "vxlan_vni": 7})
    assert [repository.create_network({"name": f"auto-{p}", "profile": p})[0].vxlan_vni for p in ("a", None)] == [1, 1]
    with pytest.raises(NotFound, match="nobody"):
        repository.create_network({"name": "x", "profile": "nobody"})
    with pytest.raises(Conflict, match="n-a"):
        repository.delete_profile("a")
    with pytest.raises(Conflict, match="profile"):
        repository.update_network(networks[0].model_copy(update={"profile": "b"}))
    for name in ("n-a", "auto-a"):
        repository.delete_network(next(n.id for n in repository.networks() if n.name == name))
    repository.delete_profile("a")
    assert repository.create_network({"name": "again", "vxlan_vni": 2})[0].vxlan_vni == 2  # what went back was of profile a


def test_writers_that_race(store: Store) -> None:
    def make(number: int) -> None:
        repository = Repository(store)
        repository.put_profile({"name": f"p{number}", "hosts": "all"})
        try:
            repository.delete_profile(f"p{(number + 1) % 6}")
        except WarrenError:
            pass
        try:
            repository.create_network({"name": f"n{number}", "profile": f"p{number}"})
        except NotFound:
            pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(6)))
    repository = Repository(store)
    profiles = repository.profiles()
    assert len({p.port for p in profiles.values()}) == len({p.number for p in profiles.values()}) == len(profiles)
    assert all(n.profile_number == profiles[str(n.profile)].number for n in repository.networks())
