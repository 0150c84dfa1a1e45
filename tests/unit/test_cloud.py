"""Hosts in clouds: the fields of a host's record that follow the metadata, and what becomes of a bad reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import load
from agent.identity import cloud
from agent.identity.cloud import CloudUnderlay, place_of, site_name
from specs.model.host import Host
from specs.model.names import is_name
from specs.model.site import OutsideAddress
from tools.lab import metadata
from tools.lab.clouds import instance
from tools.lab.plan import LabPlan
from underlay import azure, gcp
from warren.errors import Invalid, Unavailable


def nic(*addresses: str, public: Mapping[str, str] | None = None, link: str | None = "eth1") -> dict[str, Any]:
    return {"mac": "02:00:00:00:00:01", "link": link, "addresses": list(addresses), "public": dict(public or {}), "prefixes": []}


def status(*nics: dict[str, Any], site: str = "aws/us-west-2/vpc-1", **fields: Any) -> dict[str, Any]:
    return {"applied": True, "problems": [], "differences": [], "location": {"site": site}, "nics": list(nics)} | fields


INSIDE = nic("10.4.0.5/24", public={"10.4.0.5": "198.51.100.5"}, link="eth0")
OUTSIDE = nic("10.5.0.5/24", "10.5.0.6/24", public={"10.5.0.6": "198.51.100.6"})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("aws/us-west-2/vpc-0a1b", "aws.us-west-2.vpc-0a1b"),
        ("azure/westus/My_Group.1", "azure.westus.My_Group.1"),
        ("gcp/us-west1", "gcp.us-west1"),
    ],
)
def test_site_is_readable(text: str, name: str) -> None:
    assert site_name(text) == name


def test_sites_that_no_name_can_hold_differ() -> None:
    texts = [
        "azure/westus/a(b)",
        "azure/westus/a b",
        "azure/westus/gr\u00fcn",
        "azure/westus/" + "x" * 90,
        "azure/westus/" + "x" * 91,
    ]
    names = [site_name(text) for text in texts]
    assert all(map(is_name, names))
    assert len({*names, site_name("azure/westus/a-b-")}) == len(texts) + 1


@pytest.mark.parametrize(
    ("nics", "vtep", "outside"),
    [
        ([INSIDE], "10.4.0.5", None),  # what is inside is not outside
        ([INSIDE, OUTSIDE], "10.4.0.5", ("10.5.0.6", "eth1", "198.51.100.6")),
        ([INSIDE, nic("10.6.0.1/24"), OUTSIDE], "10.4.0.5", ("10.5.0.6", "eth1", "198.51.100.6")),
        ([INSIDE, nic("10.6.0.1/24", public={"10.6.0.1": "198.51.100.7"}, link=None)], "10.4.0.5", None),
        ([INSIDE, nic("10.6.0.1/24", public={"10.9.9.9": "198.51.100.7"})], "10.4.0.5", None),  # an alias range's
        ([nic("fd00::5/64"), OUTSIDE], "fd00::5", ("10.5.0.6", "eth1", "198.51.100.6")),
    ],
)
def test_place(nics: list[dict[str, Any]], vtep: str, outside: tuple[str, str, str] | None) -> None:
    place = place_of(status(*nics))
    assert place.vtep == ip_address(vtep)
    values = (str(place.outside.address), place.outside.interface, str(place.outside.public)) if place.outside else None
    assert values == outside


@pytest.mark.parametrize(
    "document",
    [
        {},
        status(),
        status(nic()),
        status(nic("10.4.0.500/24")),
        status(nic("10.4.0.5/24"), site=""),
        {"nics": [INSIDE]},
        status(INSIDE) | {"location": None},
        status(INSIDE, nic("10.5.0.5/24", public={"10.5.0.5": "everywhere"})),
        status(INSIDE) | {"nics": "eth0"},
        status(INSIDE, {"mac": "02:00:00:00:00:02"}),
    ],
)
def test_documents_that_say_no_place_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        place_of(document)


class World:
    """An agent's view of a cloud: its settings, the host's record, and what warren-underlay answers."""

    def __init__(self, run: Path, **settings: str) -> None:
        self.config = load({"WARREN_HOST": "h1", "WARREN_RUN": str(run), "WARREN_HTTP": "0.0.0.0:9999", **settings})
        self.record = Host(name="h1", vtep=ip_address("192.0.2.1"))
        self.answer: dict[str, Any] | Exception = status(INSIDE, OUTSIDE)
        self.changes = 0

    def feature(self) -> CloudUnderlay:
        return CloudUnderlay(self.config, self, self._changed, self._read)  # type: ignore[arg-type]

    @property
    def view(self) -> Any:
        return SimpleNamespace(snapshot=SimpleNamespace(hosts={"h1": self.record}))

    host = "h1"

    def _changed(self) -> None:
        self.changes += 1

    def _read(self) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def step(feature: CloudUnderlay) -> None:
    feature._step(frozenset())


def test_all_fields_follow(tmp_path: Path) -> None:
    world = World(tmp_path, WARREN_UNDERLAY="cloud")
    feature = world.feature()
    assert feature.vtep() == ip_address("10.4.0.5")
    outside = OutsideAddress(address=ip_address("10.5.0.6"), interface="eth1", public=ip_address("198.51.100.6"))
    site = "aws.us-west-2.vpc-1"
    assert feature.fields() == {"vtep": ip_address("10.4.0.5"), "api": "http://10.4.0.5:9999", "site": site, "outside": outside}
    world.answer = status(nic("10.4.0.9/24"), problems=["eth0: no gateway"], differences=["eth0: address 10.4.0.9/24 is missing"])
    step(feature)
    assert world.changes == 1
    assert feature.fields() == {"vtep": ip_address("10.4.0.9"), "api": "http://10.4.0.9:9999", "site": site, "outside": None}
    assert feature.problems()[0] == "cloud: eth0: no gateway"
    assert "public address" in feature.problems()[1]
    assert feature.differences() == ["cloud: eth0: address 10.4.0.9/24 is missing"]


@pytest.mark.parametrize("answer", [Unavailable("warren-underlay", "refused"), status(), status(INSIDE, applied=False)])
def test_a_bad_reading_changes_nothing(tmp_path: Path, answer: Any) -> None:
    """Nor does one that is not carried out, also after a restart of the agent."""
    world = World(tmp_path, WARREN_UNDERLAY="cloud")
    before = world.feature()
    before.vtep()
    world.answer = answer
    for feature in (before, world.feature()):
        step(feature)
        assert feature.fields()["outside"] is not None
        assert feature.vtep() == ip_address("10.4.0.5")
        lines = feature.problems()
        assert len(lines) == (0 if "applied" in str(answer) and answer["nics"] else 1)
        assert all("the last state is kept" in line for line in lines)
    world.answer = status(INSIDE, OUTSIDE)
    step(feature)
    assert feature.problems() == []


def test_without_any_reading_an_agent_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "START_S", 0.0)
    world = World(tmp_path, WARREN_UNDERLAY="cloud")
    (tmp_path / cloud.FILE).write_text("{")  # a file that was cut off counts as none
    world.answer = Unavailable("warren-underlay", "refused")
    with pytest.raises(Unavailable, match="refused"):
        world.feature().vtep()


def test_settings_take_precedence(tmp_path: Path) -> None:
    named = {"WARREN_VTEP": "192.0.2.1", "WARREN_SITE": "east", "WARREN_OUTSIDE": "203.0.113.1"}
    expected = {"WARREN_VTEP": {"vtep", "api"}, "WARREN_SITE": {"site"}, "WARREN_OUTSIDE": {"outside"}}
    for variable, value in named.items():
        feature = World(tmp_path, WARREN_UNDERLAY="cloud", **{variable: value}).feature()
        step(feature)
        assert set(feature.fields()) == {"vtep", "api", "site", "outside"} - expected[variable]
    assert "WARREN_UNDERLAY" in str(pytest.raises(Invalid, load, {"WARREN_UNDERLAY": "ec2"}).value)


def test_the_record_may_ask_for_it(tmp_path: Path) -> None:
    world = World(tmp_path, WARREN_VTEP="192.0.2.1")
    feature = world.feature()
    step(feature)
    assert feature.fields() == {}
    world.record = world.record.model_copy(update={"underlay": "cloud"})
    step(feature)
    assert set(feature.fields()) == {"site", "outside"}
    world.record = world.record.model_copy(update={"underlay": None})
    step(feature)
    assert feature.fields() == {}


def test_old_records_of_hosts_are_read() -> None:
    assert Host.model_validate_json('{"name": "h1", "vtep": "192.0.2.1"}').underlay is None
    with pytest.raises(ValueError, match="cloud"):
        Host.model_validate({"name": "h1", "vtep": "192.0.2.1", "underlay": "aws"})


@pytest.mark.parametrize(
    ("clouds", "size", "sites", "reason"),
    [(("aws", "ibm"), 2, 2, "gcp"), (("aws",), 2, 2, "site"), (("aws", "gcp"), 3, 2, "same number"), (("",), 1, 1, "aws")],
)
def test_laboratories_in_clouds_that_cannot_be(clouds: tuple[str, ...], size: int, sites: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LabPlan("lab", size, sites=sites, clouds=clouds)


def test_the_laboratorys_instances_are_what_the_providers_read() -> None:
    plan = LabPlan("lab", 3, sites=3, clouds=("aws", "azure", "gcp"))
    assert LabPlan.parse("lab", plan.text) == plan
    readers = {"azure": lambda text: azure.metadata(json.loads(text), None), "gcp": lambda text: gcp.metadata(json.loads(text))}
    documents = {"azure": metadata.azure_document, "gcp": metadata.gcp_document}
    for host in plan.hosts[1:]:
        read = readers[host.cloud](json.dumps(documents[host.cloud](instance(host))))
        assert [str(nic.addresses[0].ip) for nic in read.nics] == [host.vtep, host.outside]
        assert str(read.nics[1].public[0].public) == host.public
    assert ("WARREN_UNDERLAY", "cloud") in plan.hosts[0].environment()
    assert "WARREN_VTEP" not in dict(plan.hosts[0].environment())
