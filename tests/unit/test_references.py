"""Records that name what does not exist."""

from __future__ import annotations

import pytest

from specs.model.acl import Acl
from specs.model.adoption import Adoption
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.hostnet import HostNetwork
from specs.model.meter import Meter
from specs.model.mirror import Mirror
from specs.model.network import Network
from specs.model.service import Service
from specs.model.tenant import Tenant
from specs.references import References
from specs.snapshot import Snapshot

WEB = Endpoint(id="e1", name="web", network_id="n1", host="h1", mac_address="02:00:00:00:00:01", ofport=1)
STATE = Snapshot(
    hosts={"h1": Host(name="h1", vtep="192.0.2.1")},
    networks={"n1": Network(id="n1", name="amber", vxlan_vni=1), "n2": Network(id="n2", name="blue", vxlan_vni=2, mode="nat", ip_range="10.0.0.0/24")},
    endpoints={"e1": WEB},
    acls={"wall": Acl(name="wall", rules=({"actions": {"allow": 0, "meter": "slow"}},))},
    hostnets={"h1": HostNetwork(name="h1", prefixes=({"prefix": "192.0.2.0/24", "kind": "interface", "via": "mgmt0"}, {"prefix": "198.51.100.0/24", "kind": "route", "via": "192.0.2.9"}))},
    meters={"slow": Meter(name="slow", meter_id=1, rate=1)},
)  # fmt: skip
ALLOW = {"actions": {"allow": 1}}


@pytest.mark.parametrize(
    ("kind", "record", "reasons"),
    [
        ("network", Network(id="x", name="x", vxlan_vni=9, default_acl=["wall", "nope"], vlan_out_acl=["gone"], nat_acl=["away"]),
         ["default_acl names ACL nope", "vlan_out_acl names ACL gone", "nat_acl names ACL away"]),
        ("network", Network(id="x", name="x", vxlan_vni=9, default_acl=["wall"]), []),
        ("endpoint", WEB.model_copy(update={"acls": ("nope", "wall", "blue:wall", "red:wall")}),
         ["acls names ACL nope", "acls names network red"]),
        ("endpoint", WEB.model_copy(update={"acls": ("nope",), "spare": True}), []),
        ("endpoint", Endpoint.model_validate(WEB.data() | {"publish": [{"host_port": 80, "port": 80}]}), ["publish: network amber is in mode flat"]),
        ("endpoint", Endpoint.model_validate(WEB.data() | {"network_id": "n2", "publish": [{"host_port": 80, "port": 80}]}), []),
        ("endpoint", Endpoint.model_validate(WEB.data() | {"network_id": "n2", "publish": [
            {"host_ip": ip, "host_port": port, "port": 80} for port, ip in enumerate(("9.9.9.9", "192.0.2.77", "127.0.0.1", "198.51.100.1", "2001:db8::1"), 80)]}),
         [f"publish: no interface of host h1 has host_ip {ip} in its range" for ip in ("198.51.100.1", "2001:db8::1", "9.9.9.9")]),
        ("endpoint", WEB.model_copy(update={"port": "mgmt0"}), ["port: 192.0.2.0/24 on interface mgmt0 of host h1, which would no longer be reached"]),
        ("endpoint", WEB.model_copy(update={"port": "mgmt0", "host": "h2"}), []),
        ("endpoint", WEB.model_copy(update={"port": "mgmt0", "spare": True}), []),
        ("endpoint", WEB.model_copy(update={"port": "eno1"}), []),
        ("host", Host(name="x", vtep="192.0.2.9", acls=["nope"]), ["acls names ACL nope"]),
        ("tenant", Tenant(name="default", acls=["nope"]), ["acls names ACL nope"]),
        ("acl", Acl(name="x", rules=({"actions": {"allow": 1, "meter": "fast"}},)), ["rules[0] names meter fast"]),
        ("acl", Acl(name="x", rules=({"from": {"endpoint": "nope"}, **ALLOW}, {"to": {"network": "red"}, **ALLOW}, {"from": {"endpoint": "web"}, "to": {"network": "amber"}, **ALLOW})),
         ["rules[0].from names endpoint nope", "rules[1].to names network red"]),
        ("mirror", Mirror(name="x", vni=1, sources=[{"network": "red"}, {"network": "amber", "endpoint": "nope"}, {"network": "n1", "endpoint": "e1"}], to={"host": "h9", "interface": "tap0"}),
         ["sources[0] names network red", "sources[1] names endpoint nope, which network amber does not have", "to names host h9"]),
        ("adoption", Adoption(name="x", match="ve-*", network="amber", host="h9"), ["host names host h9"]),
        ("adoption", Adoption(name="x", match="ve-*", network="amber", host="h1"), []),
        ("mirror", Mirror(name="x", vni=1, sources=[{"network": "amber", "label": "any"}], to={"network": "blue", "endpoint": "web"}),
         ["to names endpoint web, which network blue does not have"]),
        ("service", Service(name="x", network="amber", host_port=1, port=1, endpoints=["web", "e1", "nope"]),
         ["endpoints[2] names endpoint nope, which network amber does not have"]),
        ("service", Service(name="x", network="amber", host_port=1, port=1, label="later"), []),
    ],
    ids=str,
)  # fmt: skip
def test_names_without_a_bearer_are_told(kind: str, record: object, reasons: list[str]) -> None:
    name = str(getattr(record, "id", None) or record.name)  # type: ignore[attr-defined]
    state = Snapshot(
        **{f"{k}s": dict(getattr(STATE, f"{k}s")) for k in ("host", "hostnet", "network", "endpoint", "acl", "meter")}
    )
    getattr(state, f"{kind}s")[name] = record
    texts = [problem.reason for problem in References(state).of(kind, name)]
    assert len(texts) == len(reasons), texts
    assert all(text.startswith(start) for text, start in zip(texts, reasons, strict=True)), texts
    assert len(References(state).problems()) == len(reasons)


def test_ports_that_are_published_on_a_network_that_becomes_flat() -> None:
    published = Endpoint.model_validate(WEB.data() | {"publish": [{"host_port": 80, "port": 80}]})
    state = Snapshot(networks=STATE.networks, endpoints={"e1": published})
    (problem,) = References(state).of("network", "n1")
    assert problem == ("network/amber", "mode flat has no gateway: the ports that web publishes lead nowhere")
    assert References(state).of("endpoint", "e1")[0].about == "endpoint/amber/web"
    assert References(state).of("network", "gone") == []
