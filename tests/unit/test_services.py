"""Services: validity, members per host, and documents."""

from __future__ import annotations

import pytest

from controller.compiler.compile import compile_view
from intent.recompute import view
from intent.views import View
from pipeline.tables import Table
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.documents.export import export
from specs.snapshot import Snapshot, snapshot
from tests.unit import worlds
from warren.errors import Invalid

AMBER = worlds.network("amber", 7, v6=False, mode="nat")
GREEN = worlds.network("green", 9, v6=False, mode="routed")
HOSTS = [worlds.host(f"h{i}", f"198.18.0.1{i}") for i in (1, 2, 3)]
WEB = [worlds.endpoint(f"web-{i}", "amber", f"h{i}", i + 1, 1, v6=False, labels={"role": "web"}) for i in (1, 2)]


def state(*entries: tuple[str, str]) -> Snapshot:
    return snapshot((key, value, born) for born, (key, value) in enumerate((*HOSTS, AMBER, GREEN, *WEB, *entries), 1))


def seen(host: str, *entries: tuple[str, str], uplink: int | None = 65278) -> View:
    specs = state(*entries)
    ports = {e.id: e.ofport for e in specs.endpoints.values() if e.host == host and e.id != "late"}
    return view(specs, host, ports, 65279, uplink)


@pytest.mark.parametrize("whom", [{"label": "role"}, {"label": "role=web"}, {"endpoints": ["web-1", "web-2", "nobody"]}])
def test_all_members_share_a_service_on_every_host_of_the_network(whom: dict[str, object]) -> None:
    shop = worlds.service("shop", "amber", 8080, **whom)
    for host in ("h1", "h2"):
        (service,) = seen(host, shop).services
        assert ([m.address for m in service.members4], service.members6) == (["10.0.0.2", "10.0.0.3"], ())
    assert seen("h3", shop).services == frozenset()
    assert seen("h1", shop, uplink=None).services == frozenset()


def test_members_without_a_port_get_no_connections() -> None:
    late = worlds.endpoint("late", "amber", "h1", 9, 9, v6=False, labels={"role": "web"})
    asleep = worlds.endpoint("asleep", "amber", "h2", 8, 8, v6=False, labels={"role": "web"}, active=False)
    (service,) = seen("h1", worlds.service("shop", "amber", 80, label="role"), late, asleep).services
    assert [m.address for m in service.members4] == ["10.0.0.2", "10.0.0.3"]


def test_conflicting_services_are_a_problem_and_the_first_created_has_the_port() -> None:
    view = seen(
        "h1",
        worlds.service("one", "amber", 80, label="role"),
        worlds.service("two", "amber", 80, label="role"),
        worlds.service("udp", "amber", 80, proto="udp", label="role"),
        worlds.service("flat", "green", 81, label="role"),
        worlds.service("lost", "nowhere", 82, label="role"),
    )
    assert {service.name for service in view.services} == {"one", "udp"}
    assert {f"{p.about}: {p.reason}" for p in view.problems} == {
        "service/two: tcp port 80 belongs to service one",
        "service/flat: network green is not in mode nat",
        "service/lost: network nowhere does not exist",
    }


def test_an_endpoints_own_port_comes_first_on_its_host() -> None:
    publisher = worlds.endpoint("own", "amber", "h1", 9, 9, v6=False, publish=[{"host_port": 80, "port": 80}])
    flows = compile_view(seen("h1", worlds.service("shop", "amber", 80, label="role"), publisher)).flows
    meeting = {flow.origin.name: flow.priority for flow in flows if flow.table is Table.DNAT and ("tcp_dst", 80) in flow.match}
    assert meeting["own"] > meeting["shop"]


def test_services_survive_export_and_import_with_one_kind_of_member_list() -> None:
    specs = state(worlds.service("shop", "amber", 80, label="role=web"))
    assert diff(parse(export(specs)), specs, prune=True) == ()
    named = "services: [{name: shop, network: amber, host_port: 80, port: 80, endpoints: [web-1]}]"
    (change,) = diff(parse(named), specs)
    assert dict(change.fields) == {"endpoints": ([], ["web-1"]), "label": ("role=web", None)}
    with pytest.raises(Invalid, match=r"services\[0\].network: 'green': expected a network in mode nat"):
        diff(parse(named.replace("amber", "green")), specs)
    for wrong in ("endpoints: [web-1], label: role", "port: 80"):
        with pytest.raises(Invalid):
            parse(f"services: [{{name: shop, network: amber, host_port: 80, {wrong}}}]")
