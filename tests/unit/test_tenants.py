"""Tenants: ranges as people write them, whose numbers are whose, and the ACLs of a tenant. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.model.base import decode
from specs.model.network import Network
from specs.model.number_ranges import canonical, contains, overlap, spans, without
from specs.model.tenant import Tenant, check_network, check_tenant, free_vnis, governing
from warren.errors import Conflict, Invalid

SPAN = st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SPANS = st.lists(SPAN, max_size=6)


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for low, high in ranges for number in range(low, high + 1)}


def tenant(name: str, **fields: object) -> Tenant:
    return decode(Tenant, {"name": name, **fields}, "tenant")


def network(name: str, vni: int, owner: str | None = None, vlan: int | None = None, **fields: object) -> Network:
    return decode(Network, {"id": name, "name": name, "vxlan_vni": vni, "tenant": owner, "vlan": vlan, **fields}, "network")


@pytest.mark.parametrize(
    ("text", "form"),
    [("7000,5000-5099", "5000-5099,7000"), (" 1 - 3 , 9 ", "1-3,9"), ("5-5", "5"), (7, "7"), ("16777215", "16777215")],
)
def test_ranges_have_one_form(text: object, form: str) -> None:
    assert canonical(text, 1, 16_777_215) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "5-",
        "-5",
        "9-5",
        "0",
        "0-5",
        "16777216",
        "1,,2",
        "1-5,5",
        "1-5,2-3",
        "1.5",
        "1--2",
        True,
        None,
        [1],
        "\u0661",
        ",".join("1" * 40),
    ],
)
def test_what_is_no_ranges_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="ranges"):
        canonical(text, 1, 16_777_215)


def test_vlan_ids_end_at_4094() -> None:
    for text in ("4095", "0-10", "4000-5000"):
        with pytest.raises(Invalid) as error:
            tenant("acme", vlan=text)
        assert "1-4094" in str(error.value)


@given(SPANS, SPANS)
def test_ranges_are_sets_of_numbers(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    assert numbers(without(some, others)) == numbers(some) - numbers(others)
    common = overlap(some, others)
    assert (common is not None) == bool(numbers(some) & numbers(others))
    assert common is None or numbers([common]) <= numbers(some) & numbers(others)
    assert all(contains(some, number) == (number in numbers(some)) for number in range(1, 50))
    assert spans("") == ()


def test_automatic_numbers_come_from_the_tenants_range_and_else_from_what_nobody_has() -> None:
    acme, empty = tenant("acme", vni="5-9,20"), tenant("empty")
    assert free_vnis(acme, [acme, empty]) == [(5, 9), (20, 20)]
    for other in (None, empty):
        assert free_vnis(other, [acme, empty]) == [(1, 4), (10, 19), (21, 16_777_215)]


def test_a_network_keeps_to_its_tenants_numbers() -> None:
    tenants = {"acme": tenant("acme", vni="5000-5099,7000", vlan="100-199"), "other": tenant("other")}
    check_network(network("n", 7000, "acme", 150), 7000, tenants)
    check_network(network("n", 7, "other", 7), 7, tenants)
    for wrong, text in ((network("n", 12, "acme"), "5000-5099,7000"), (network("n", 7000, "acme", 5), "100-199")):
        with pytest.raises(Invalid) as error:
            check_network(wrong, wrong.vxlan_vni, tenants)
        assert text in str(error.value)
    for owner in (None, "other", "default"):
        for wrong, text in ((network("n", 5001, owner), "5000-5099,7000"), (network("n", 1, owner, 100), "100-199")):
            with pytest.raises(Conflict, match=text):
                check_network(wrong, wrong.vxlan_vni, tenants)


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"vni": "50-60"}, "50 is of tenant b"), ({"vni": "1-100"}, "40-50 are of tenant b"), ({"vlan": "9"}, "VLAN ids 9 is of tenant b"),
     ({"vni": "300-310"}, "network red has vni 305, inside"), ({"vni": "400-410"}, "network mine has vni 7, outside 400-410"), ({"max_networks": 0}, "1 networks, more than 0")],
)  # fmt: skip
def test_what_others_use_is_not_delegated(fields: dict[str, object], text: str) -> None:
    others = [tenant("b", vni="40-50", vlan="9")]
    networks = [network("red", 305), network("mine", 7, "a")]
    with pytest.raises(Conflict, match=text):
        check_tenant(tenant("a", **fields), others, networks)
    check_tenant(tenant("a", vni="7-9", vlan="10", max_networks=1), others, networks)


def test_the_default_tenant_has_the_rest() -> None:
    for fields in ({"vni": "1-5"}, {"vlan": "1-5"}, {"max_networks": 3}):
        with pytest.raises(Invalid):
            tenant("default", **fields)


def test_a_tenants_acls_come_before_those_of_all() -> None:
    tenants = {"acme": tenant("acme", acls=["strict"]), "default": tenant("default", acls=["base"])}
    assert governing(network("n", 1, "acme"), tenants).acls == ("strict", "base")
    assert governing(network("n", 1), tenants).acls == ("base",)
    assert governing(network("n", 1, "gone"), {}).acls == ()
