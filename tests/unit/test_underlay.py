"""The underlay in the clouds without a kernel: documents to NICs, NICs to plans, configuration, layout of cnctl, faults of metadata services."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.lab import metadata as service
from underlay import aws, azure, fetch, gcp, layout, state
from underlay.config import PATH, Configuration, duration_s, load, parsed
from underlay.detect import FILES, cloud, recognised
from underlay.events import concerns
from underlay.fields import mac_address
from underlay.model import Nic
from underlay.plan import MAIN, Kernel, Marked, NetLink, OnLink, RoutingRule, TableRoute, difference, link_of, phrases, plan
from warren.errors import Invalid, Unavailable

NICS: list[dict[str, Any]] = [
    {"mac": "02:00:00:00:01:01", "addresses": ["10.4.0.5"], "subnets": ["10.4.0.0/24"], "public": {"10.4.0.5": "198.51.100.5"}},
    {
        "mac": "02:00:00:00:01:02",
        "addresses": ["10.4.1.5", "10.4.1.6", "fd00::5"],
        "subnets": ["10.4.1.0/24"],
        "prefixes": ["10.4.1.64/28"],
    },
]


def described(cloud_name: str, nics: list[dict[str, Any]] | None = None, **faults: Any) -> dict[str, Any]:
    """An instance as the metadata service of laboratories reads it."""
    return {
        "cloud": cloud_name,
        "name": "web",
        "region": "us-west-2",
        "zone": "us-west-2a",
        "vpc": "vpc-1",
        "nics": nics or NICS,
        "faults": faults,
    }


def walked(tree: Any) -> Any:
    """A tree of EC2 as a walk gives it."""
    return {name: walked(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else tree.replace("\n", ",").strip(",")


def ec2_trees(instance: dict[str, Any]) -> tuple[Any, Any]:
    system = walked(service.ec2_tree(instance)["meta-data"])
    return system, system["network"]["interfaces"]["macs"]


# ---- documents


def test_a_nic_is_read_alike_from_the_three_dialects() -> None:
    nics = {
        "aws": aws.metadata(*ec2_trees(described("aws")), {}).nics,
        "azure": azure.metadata(service.azure_document(described("azure"))).nics,
        "gcp": gcp.metadata(service.gcp_document(described("gcp"))).nics,
    }
    for name, (first, second) in nics.items():
        assert [nic.mac for nic in (first, second)] == [nic["mac"] for nic in NICS], name
        assert [str(address.ip) for address in second.addresses] == NICS[1]["addresses"], name
        assert (str(first.gateway4), str(second.gateway4)) == ("10.4.0.1", "10.4.1.1"), name
        assert [(str(pair.private), str(pair.public)) for pair in first.public] == [("10.4.0.5", "198.51.100.5")], name
    assert [address.network.prefixlen for address in nics["aws"][1].addresses] == [24, 24, 128]
    assert [address.network.prefixlen for address in nics["gcp"][1].addresses] == [32, 32, 128], (
        "Google's addresses are single ones"
    )
    assert nics["aws"][1].prefixes == (ip_network("10.4.1.64/28"),)
    assert nics["gcp"][1].mtu == 1460
    assert nics["gcp"][1].gateway6 == ip_address("fe80::1")


def test_the_site_says_cloud_region_and_vpc() -> None:
    assert aws.metadata(*ec2_trees(described("aws")), {}).location.site == "aws/us-west-2/vpc-1"
    assert azure.metadata(service.azure_document(described("azure"))).location.site == "azure/us-west-2/vpc-1"
    assert gcp.metadata(service.gcp_document({**described("gcp"), "zone": "us-west1-b"})).location.site == "gcp/us-west1/vpc-1"
    system, macs = ec2_trees(described("aws"))
    del system["placement"]["region"]
    assert aws.metadata(system, macs, {}).location.region == "us-west-2", "of the availability zone"


def test_azures_public_addresses_of_the_standard_tier_are_the_load_balancers() -> None:
    balancer = {"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "20.0.0.9", "privateIpAddress": "10.4.1.5"}]}}
    nics = azure.metadata(service.azure_document(described("azure")), balancer).nics
    assert [str(pair.public) for pair in nics[1].public] == ["20.0.0.9"]
    for garbage in (None, [], {}, {"loadbalancer": 1}, {"loadbalancer": {"publicIpAddresses": [1, {}]}}):
        assert azure.metadata(service.azure_document(described("azure")), garbage).nics[1].public == ()


def test_nothing_secret_is_kept() -> None:
    for document in (
        azure.metadata(service.azure_document(described("azure"))),
        gcp.metadata(service.gcp_document(described("gcp"))),
    ):
        assert "SECRET" not in json.dumps([document.system, document.network])
        assert "ssh-ed25519" in layout.ssh_keys(document.system)


@pytest.mark.parametrize("value", ["000D3A5D2D66", "00:0d:3a:5d:2d:66", "00-0D-3A-5D-2D-66"])
def test_macs_in_any_notation(value: str) -> None:
    assert mac_address(value, "mac") == "00:0d:3a:5d:2d:66"


@pytest.mark.parametrize("value", ["", "000D3A5D2D6", "01:00:5e:00:00:01", "00:00:00:00:00:00", 5, None])
def test_what_is_no_mac_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        mac_address(value, "mac")


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ["::ffff:10.4.0.5"]},
        {"addresses": ["fe80::5"]},
        {"addresses": ["fd00::5%eth0"]},
        {"addresses": ["169.254.169.254"]},
        {"addresses": ["255.255.255.255"]},
        {"addresses": ["0.0.0.0"]},
        {"addresses": ["10.4.0.5"], "prefixes": ["0.0.0.0/1"]},
        {"addresses": ["10.4.0.5"], "prefixes": ["169.254.169.240/28"]},
        {"addresses": ["10.4.0.5"], "prefixes": ["::/1"]},
        {"addresses": ["10.4.0.5"], "prefixes": ["10.4.0.0/24", "127.0.0.0/28"]},
        {"subnets": ["0.0.0.0/2"]},
        {"subnets": ["169.254.0.0/16"]},
    ],
    ids=str,
)
def test_what_no_cloud_gives_to_an_interface_is_invalid(changes: dict[str, Any]) -> None:
    instance = described("aws", [{"mac": "02:00:00:00:01:01", "addresses": ["10.4.0.5"], "subnets": ["10.4.0.0/24"], **changes}])
    with pytest.raises(Invalid):
        aws.metadata(*ec2_trees(instance), {})


@pytest.mark.parametrize("mtu", [-1, 1, 1279, 65_536, 1500.5, "1500", True])
def test_an_mtu_that_no_interface_has_is_invalid(mtu: object) -> None:
    with pytest.raises(Invalid):
        gcp.metadata(service.gcp_document(described("gcp", [{**NICS[0], "mtu": mtu}])))
    assert gcp.metadata(service.gcp_document(described("gcp", [{**NICS[0], "mtu": 0}]))).nics[0].mtu is None


def test_a_prefix_of_the_own_subnet_is_delegated_and_an_endless_device_number_is_none() -> None:
    """EC2 takes prefixes out of the subnet: a rule for the range, and the addresses in it are nobody's here."""
    nic = {"mac": "02:00:00:00:01:01", "addresses": ["10.4.0.5"], "subnets": ["10.4.0.0/24"], "prefixes": ["10.4.0.0/28"]}
    (read,) = aws.metadata(*ec2_trees(described("aws", [nic])), {}).nics
    assert read.prefixes == (ip_network("10.4.0.0/28"),)
    system, macs = ec2_trees(described("aws", [nic]))
    macs["02:00:00:00:01:01"]["device-number"] = "9" * 5000
    with pytest.raises(Invalid):
        aws.metadata(system, macs, {})


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All paths of a document."""
    yield path
    children = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


READERS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "aws": (list(ec2_trees(described("aws"))), lambda pair: aws.metadata(pair[0], pair[1], {})),
    "azure": (service.azure_document(described("azure")), azure.metadata),
    "gcp": (service.gcp_document(described("gcp")), gcp.metadata),
}
GARBAGE = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.just([]), st.just({}), st.just(["x"]), st.just({"x": 1}),
                    st.sampled_from(["0.0.0.0", "224.0.0.1", "127.0.0.1", "10.4.0.5/24", "::", "0.0.0.0/0", "fe80::1%eth0"]))  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_garbled_document_is_invalid_or_well_formed(name: str, data: st.DataObject) -> None:
    """Whatever is put anywhere: NICs with addresses, or `Invalid`, which changes nothing."""
    original, read = READERS[name]
    document = copy.deepcopy(original)
    path = data.draw(st.sampled_from([place for place in places(document) if place and not (name == "aws" and len(place) == 1)]))
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = data.draw(GARBAGE)
    try:
        metadata = read(document)
    except Invalid:
        pass
    else:
        assert metadata.nics
        assert all(nic.addresses for nic in metadata.nics)


@pytest.mark.parametrize("name", READERS)
def test_documents_without_interfaces_are_invalid(name: str) -> None:
    original, read = READERS[name]
    document = copy.deepcopy(original)
    if name == "aws":
        document[1] = {}
    elif name == "azure":
        document["network"]["interface"] = []
    else:
        document["instance"]["networkInterfaces"] = []
    with pytest.raises(Invalid):
        read(document)
    if name == "azure":  # two with one MAC
        first = original["network"]["interface"][0]
        with pytest.raises(Invalid):
            read({**original, "network": {"interface": [first, first]}})


def test_an_instance_of_an_ipv6_subnet_has_ipv6_addresses_alone() -> None:
    only = {"mac": "02:00:00:00:01:01", "addresses": ["2600:1f14::15", "2600:1f14::16"], "subnets": ["2600:1f14::/64"]}
    (read,) = aws.metadata(*ec2_trees(described("aws", [only])), {}).nics
    assert [str(address) for address in read.addresses] == ["2600:1f14::15/64", "2600:1f14::16/64"]
    assert read.gateway4 is None
    kernel = Kernel(links=(link(1, mac=read.mac), link(2)), gateways=((1, ip_address("fe80::1")),))
    planned = plan([read, nic(2, "10.4.1.5/24", gateway="10.4.1.1")], kernel)
    assert planned.problems == ()
    assert any(route.gateway == ip_address("fe80::1") and route.table == 10_000 for route in planned.state.routes)
    document = service.gcp_document(described("gcp"))
    interface = document["instance"]["networkInterfaces"][1]
    interface |= {"ip": "", "gateway": "", "ipAliases": [], "accessConfigs": [], "subnetmask": ""}
    second = gcp.metadata(document).nics[1]
    assert ([str(address) for address in second.addresses], second.gateway4) == (["fd00::5/128"], None)


# ---- detection


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("azure", "sys_vendor", "Microsoft Corporation"),
        ("azure", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
        ("aws", "product_uuid", "EC2F1B2A-0000"),
        ("aws", "hypervisor_uuid", "ec2f1b2a"),
        ("aws", "product_version", "4.11.amazon"),
        ("aws", "sys_vendor", "Amazon EC2"),
        ("gcp", "product_name", "Google Compute Engine"),
        ("alibaba", "product_name", "Alibaba Cloud ECS"),
        ("oracle", "chassis_asset_tag", "OracleCloud.com"),
        ("digitalocean", "sys_vendor", "DigitalOcean"),
    ],
)
def test_clouds_are_recognised_by_their_firmware(tmp_path: Path, name: str, file: str, text: str) -> None:
    path = tmp_path / FILES[file]
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\n")
    if name in ("aws", "azure", "gcp"):
        assert cloud(tmp_path) == name
    else:
        with pytest.raises(Invalid) as refusal:
            cloud(tmp_path)
        assert refusal.value.value == name
    assert recognised(dict.fromkeys(FILES, "")) is None


def test_outside_of_clouds_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        cloud(tmp_path)


# ---- plans


def nic(number: int, *addresses: str, gateway: str | None = None, **fields: Any) -> Nic:
    subnets = tuple({ip_interface(address).network for address in addresses})
    gateway4 = ip_address(gateway) if gateway else None
    return Nic(
        mac=f"02:00:00:00:00:0{number}",
        addresses=tuple(map(ip_interface, addresses)),
        subnets=subnets,
        gateway4=gateway4,
        **fields,
    )  # type: ignore[arg-type]


def link(number: int, **fields: Any) -> NetLink:
    values = {"index": number, "name": f"eth{number}", "mac": f"02:00:00:00:00:0{number}", "mtu": 1500, "up": True, **fields}
    return NetLink(**values)


ONE, TWO = nic(1, "10.4.0.5/24", gateway="10.4.0.1"), nic(2, "10.4.1.5/24", "10.4.1.6/24", gateway="10.4.1.1")


def test_one_way_out_needs_no_rules() -> None:
    kernel = Kernel(
        links=(link(1), link(2, kind="bridge", mac="06:00:00:00:00:09"), link(3, enslaved=True, mac="06:00:00:00:00:0a"))
    )
    state_ = plan([ONE], kernel).state
    assert state_.rules == frozenset()
    assert state_.addresses == {OnLink(index=1, address=ip_interface("10.4.0.5/24"))}


def test_several_ways_out_have_a_table_each() -> None:
    planned = plan([ONE, TWO], Kernel(links=(link(1), link(2))))
    assert {rule.table for rule in planned.state.rules} == {MAIN, 10_000, 10_001}
    assert RoutingRule(version=4, table=10_001, source=ip_network("10.4.1.6/32")) in planned.state.rules
    assert (
        TableRoute(table=10_001, prefix=ip_network("0.0.0.0/0"), index=2, gateway=ip_address("10.4.1.1")) in planned.state.routes
    )
    assert planned.problems == ()
    assert {item.group for item in planned.links} == {211}


def test_what_others_have_added_is_neither_taken_nor_removed() -> None:
    dhcp = OnLink(index=1, address=ip_interface("10.4.0.5/26"))
    kernel = Kernel(links=(link(1), link(2)), foreign=frozenset({dhcp, OnLink(index=2, address=ip_interface("192.0.2.1/24"))}))
    planned = plan([ONE, TWO], kernel)
    assert all(item.index == 2 for item in planned.state.addresses), "the address of DHCP stays DHCP's, whatever its length"
    differing = difference(planned, kernel)
    assert differing.remove == Marked()
    assert any("10.4.1.5/24 on eth2 is missing" in line for line in phrases(differing, kernel))
    assert not difference(plan([ONE, TWO], settled(kernel)), settled(kernel))


def settled(kernel: Kernel) -> Kernel:
    """The kernel after the plan was carried out."""
    planned = plan([ONE, TWO], kernel)
    changed = {item.index: item for item in planned.links}
    return Kernel(links=tuple(changed.get(item.index, item) for item in kernel.links), ours=planned.state, foreign=kernel.foreign)


def test_what_the_metadata_no_longer_has_is_removed() -> None:
    kernel = settled(Kernel(links=(link(1), link(2))))
    after = nic(2, "10.4.1.6/24", gateway="10.4.1.1")
    differing = difference(plan([ONE, after], kernel), kernel)
    assert {str(item.address) for item in differing.remove.addresses} == {"10.4.1.5/24"}
    assert {str(rule.source or rule.destination) for rule in differing.remove.rules} == {"10.4.1.5/32"}
    alone = plan([ONE], kernel)
    assert next(item for item in alone.links if item.index == 2).group == 0, "a NIC that is gone leaves our group"


def test_the_link_of_a_nic() -> None:
    bridge = link(5, name="br0", mac=ONE.mac, kind="bridge")
    vlan, stacked = link(1, kind="vlan"), link(4, mac=ONE.mac)
    assert link_of(ONE, Kernel(links=(link(1, enslaved=True), bridge))) == bridge
    assert link_of(ONE, Kernel(links=(vlan, stacked))) == stacked, "not the VLAN on it, which has its MAC"
    holder = Kernel(links=(link(1), bridge), foreign=frozenset({OnLink(index=5, address=ip_interface("10.4.0.5/24"))}))
    assert link_of(ONE, holder) == bridge, "the one with the address"
    missing = plan([TWO], Kernel(links=(link(1),)))
    assert "02:00:00:00:00:02" in missing.problems[0]
    assert missing.state == Marked()


def test_one_address_on_two_nics_is_the_firsts() -> None:
    planned = plan([ONE, nic(2, "10.4.0.5/24", "10.4.0.6/24", gateway="10.4.0.1")], Kernel(links=(link(1), link(2))))
    assert {(item.index, str(item.address.ip)) for item in planned.state.addresses} == {(1, "10.4.0.5"), (2, "10.4.0.6")}
    assert any("10.4.0.5 is also an address of eth1" in problem for problem in planned.problems)


def test_supplementary_links_get_a_table_for_what_they_have() -> None:
    foreign = frozenset({OnLink(index=3, address=ip_interface("192.0.2.7/24"))})
    kernel = Kernel(
        links=(link(1), link(3)), foreign=foreign, gateways=((1, ip_address("10.4.0.1")), (3, ip_address("192.0.2.1")))
    )
    planned = plan([ONE], kernel, ("eth3", "eth9"))
    assert RoutingRule(version=4, table=10_002, source=ip_network("192.0.2.7/32")) in planned.state.rules
    assert (
        TableRoute(table=10_002, prefix=ip_network("0.0.0.0/0"), index=3, gateway=ip_address("192.0.2.1")) in planned.state.routes
    )
    assert not any(item.index == 3 for item in planned.state.addresses)
    assert any("eth9" in problem for problem in planned.problems)


def test_the_gateway_of_ipv6_is_that_of_router_advertisements() -> None:
    both = nic(2, "10.4.1.5/24", "fd00::5/64", gateway="10.4.1.1")
    kernel = Kernel(links=(link(1), link(2)), gateways=((1, ip_address("fe80::9")), (2, ip_address("fe80::1"))))
    assert any(route.gateway == ip_address("fe80::1") and route.index == 2 for route in plan([ONE, both], kernel).state.routes)
    assert any("no gateway for IPv6" in problem for problem in plan([ONE, both], Kernel(links=(link(1), link(2)))).problems)
    with_gateway = nic(2, "10.4.1.5/24", "fd00::5/64", gateway="10.4.1.1", gateway6=ip_address("fe80::7"))
    ways = {
        route.gateway
        for route in plan([ONE, with_gateway], kernel).state.routes
        if route.index == 2 and route.prefix.version == 6
    }
    assert ways == {None, ip_address("fe80::7")}, "the metadata's gateway goes before the advertised one"


def test_the_rule_for_the_main_table_comes_first() -> None:
    rules = plan([ONE, TWO], Kernel(links=(link(1), link(2)))).state.rules
    assert {(rule.priority, rule.table == MAIN) for rule in rules} == {(30_210, True), (30_211, False)}


def test_a_gateway_has_a_route_of_its_own_only_outside_of_the_subnets() -> None:
    single = nic(1, "10.128.0.7/32", gateway="10.128.0.1")
    ways = {str(route.prefix) for route in plan([single, TWO], Kernel(links=(link(1), link(2)))).state.routes}
    assert "10.128.0.1/32" in ways
    assert "10.4.1.1/32" not in ways


def test_packets_from_a_delegated_prefix_leave_by_its_nic() -> None:
    delegated = nic(2, "10.4.1.5/24", gateway="10.4.1.1", prefixes=(ip_network("10.4.1.64/28"),))
    rules = plan([ONE, delegated], Kernel(links=(link(1), link(2)))).state.rules
    assert RoutingRule(version=4, table=10_001, source=ip_network("10.4.1.64/28")) in rules


def test_links_come_up_with_the_mtu_of_the_metadata() -> None:
    changed = plan([nic(1, "10.128.0.7/32", gateway="10.128.0.1", mtu=1460)], Kernel(links=(link(1, up=False),))).links
    assert [(item.up, item.mtu, item.group) for item in changed] == [(True, 1460, 0)]
    foreign = plan([ONE, TWO], Kernel(links=(link(1, group=7), link(2))))
    assert any("eth1: group 7" in problem for problem in foreign.problems)
    assert not any(item.index == 1 for item in foreign.links)


def test_routes_of_routers_wake_nobody() -> None:
    header = bytes((2, 24, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0))
    assert not concerns(24, header)
    assert concerns(25, bytes((2, 0, *header[2:])))
    assert concerns(25, bytes((2, 24, 0, 0, 254, 211, 0, 1, 0, 0, 0, 0)))
    assert concerns(21, b"")


# ---- configuration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300s", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("0s", None),
        ("-5s", None),
        ("300", None),
        ("", None),
        ("5x", None),
    ],
)
def test_durations_of_go(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


def test_only_the_usual_configuration_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="--config: .*nope.toml.: expected the path of a file"):
        load(tmp_path / "nope.toml", {})
    monkeypatch.setattr("underlay.config.PATH", tmp_path / PATH.name)
    assert load(tmp_path / PATH.name, {}) == Configuration()


def test_a_configuration_of_cloud_network_is_read_unchanged() -> None:
    text = '[System]\nRefreshTimer="5m"\nLogLevel="Trace"\nLogFormat="json"\n[Network]\nListen="127.0.0.1:5210"\nSupplementary="eth0 eth1"\n'
    settings = parsed(text, {})
    assert (settings.refresh_s, settings.level, settings.format, settings.listen) == (300, "DEBUG", "json", ("127.0.0.1", 5210))
    assert settings.supplementary == ("eth0", "eth1")
    assert parsed(text.lower(), {}) == settings, "names in any case"
    assert parsed("", {}).listen == ("127.0.0.1", 5209)
    assert parsed('[Network]\nAddress="127.0.0.2"\nPort="99"\n', {}).listen == ("127.0.0.2", 99), "an earlier version's"
    assert parsed(text, {"CLOUD_NETWORK_LOG_LEVEL": "error"}).level == "ERROR"
    unknown = parsed('[System]\nLogLevel="loud"\nLogFormat="xml"\nRefreshTimer="often"\n', {})
    assert (unknown.level, unknown.format, unknown.refresh_s, len(unknown.problems)) == ("INFO", "text", 300, 3)


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:5209", "10.0.0.4:5209", "[::]:5209", "127.0.0.1", "localhost:5209", "127.0.0.1:0", "127.0.0.1:x"]
)
def test_others_cannot_reach_the_api(listen: str) -> None:
    with pytest.raises(Invalid):
        parsed(f'[Network]\nListen="{listen}"\n', {})


@pytest.mark.parametrize("text", ["[System", "System=1", "\x00"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parsed(text, {})


# ---- cnctl


def test_the_layout_of_azures_example() -> None:
    """The lines of cloud-network's README, blanks at their ends included."""
    interface = {"ipv4": {"ipAddress": [{"privateIpAddress": "10.4.0.5", "publicIpAddress": "20.253.243.104"}],
                          "subnet": [{"address": "10.4.0.0", "prefix": "24"}]}, "macAddress": "000D3A5D2D66"}  # fmt: skip
    assert layout.network("azure", {"network": {"interface": [interface]}}, {"00:0d:3a:5d:2d:66": "eth1"}) == (
        "       Name: eth1 \nMAC Address: 00:0d:3a:5d:2d:66 \n  Public Ip: 20.253.243.104  \n Private Ip: 10.4.0.5/24  \n     Subnet: 10.4.0.0 \n\n"
    )
    text = layout.system(service.azure_document(described("azure")))
    assert text.splitlines()[:3] == [
        "     Cloud provider: azure ",
        "  Azure Environment: AzurePublicCloud ",
        "           Location: us-west-2 ",
    ]
    assert text.endswith("    Admin User name: lab \n")
    assert len({line.index(":") for line in text.splitlines()}) == 1


def test_the_layout_of_google_and_of_ec2s_document() -> None:
    document = service.gcp_document(described("gcp"))
    text = layout.network("gcp", document, {NICS[1]["mac"]: "eth1"})
    assert text.startswith(
        "                      Name: eth1 \n               MAC Address: 02:00:00:00:01:02 \n                       MTU: 1460 \n"
    )
    assert "                Ip aliases: 10.4.1.6/32 10.4.1.64/28 \n" in text
    assert "        Remaining cpu time: -1 \n" in layout.system(document)
    assert "Project Id: lab \n" in layout.project(document)
    content = json.loads(service.ec2_tree(described("aws"))["dynamic"]["instance-identity"]["document"])
    assert layout.document(content).startswith("             Account Id: 123456789012\n           Architecture: arm64\n")
    assert layout.go([True, None, {"b": 1, "a": ["x"]}]) == "[true <nil> map[a:[x] b:1]]"
    for garbage in ({}, [], None, {"compute": 1}, {"instance": 1}):
        layout.system(garbage)
        layout.ssh_keys(garbage)


# ---- state files


def test_state_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    state.prepare(tmp_path, None)
    (tmp_path / "links" / "notes").write_text("somebody's")
    state.save(tmp_path, {"name": "a" * 1000}, {2: {"mac": "x"}, 3: {}})
    state.save(tmp_path, {"name": "b"}, {2: {"mac": "x"}})
    assert json.loads((tmp_path / "system").read_text()) == {"name": "b"}
    assert sorted(path.name for path in (tmp_path / "links").iterdir()) == ["2", "notes"]
    assert (tmp_path / "system").stat().st_mode & 0o777 == 0o640


# ---- the service over HTTP


class Running:
    """A metadata service on a port of this machine."""

    def __init__(self, directory: Path) -> None:
        self.file, self.log = directory / "instance.json", directory / "requests"
        handler = type("OwnHandler", (service.Handler,), {"service": service.MetadataService(self.file, self.log)})
        self.server = service.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def source(
        self, cloud_name: str, *, clock: Callable[[], float] | None = None, allow_v1: bool = False, **faults: Any
    ) -> fetch.MetadataSource:
        self.change(cloud_name, **faults)
        http = fetch.Http("the service", f"http://127.0.0.1:{self.server.server_address[1]}", sleep=lambda _: None)
        if cloud_name == "aws":
            return fetch.Ec2(http, allow_v1=allow_v1, **({"clock": clock} if clock else {}))
        return fetch.Azure(http) if cloud_name == "azure" else fetch.Gcp(http)

    def change(self, cloud_name: str, **faults: Any) -> None:
        self.file.write_text(json.dumps(described(cloud_name, **faults)))

    def requests(self, text: str) -> int:
        return self.log.read_text().count(text)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    started = Running(tmp_path)
    yield started
    started.server.shutdown()
    started.server.server_close()


def test_each_dialect_over_http(running: Running) -> None:
    for name in ("aws", "azure", "gcp"):
        metadata = running.source(name).read()
        assert [nic.mac for nic in metadata.nics] == [nic["mac"] for nic in NICS]
        assert "SECRET" not in json.dumps([metadata.system, metadata.network])
    assert running.requests("/iam") + running.requests("credentials") == 0


@pytest.mark.parametrize("name", ["aws", "azure", "gcp"])
@pytest.mark.parametrize(
    "faults",
    [{"status": code} for code in (302, 400, 401, 403, 404, 429, 500, 503)]
    + [{"cut": True}, {"garbage": "<html>"}, {"garbage": "\0"}, {"garbage": "[" * 100_000}],
    ids=str,
)
def test_faults_are_errors(running: Running, name: str, faults: dict[str, Any]) -> None:
    with pytest.raises((Unavailable, Invalid)):
        running.source(name, **faults).read()


def test_a_service_that_drips_is_given_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ANSWER_S", 0.1)
    running.change("azure", slow_s=0.1)
    http = fetch.Http("it", f"http://127.0.0.1:{running.server.server_address[1]}", sleep=lambda _: None)
    with pytest.raises(Unavailable):
        http.get("/metadata/instance?api-version=1", {"Metadata": "true"}, answer_s=0.2)


def test_a_token_is_kept_until_four_fifths_of_its_life(running: Running) -> None:
    now = [0.0]
    source = running.source("aws", clock=lambda: now[0])
    source.read()
    now[0] = 21_600 * 0.79
    source.read()
    assert running.requests("PUT") == 1
    now[0] = 21_600 * 0.81
    source.read()
    assert running.requests("PUT") == 2


def test_version_1_only_where_it_is_allowed(running: Running) -> None:
    with pytest.raises(Unavailable):
        running.source("aws", no_token=True).read()
    assert running.source("aws", no_token=True, allow_v1=True).read().nics


def test_the_next_address_of_a_service_is_tried(running: Running) -> None:
    running.change("azure")
    http = fetch.Http("it", "http://127.0.0.1:1", f"http://127.0.0.1:{running.server.server_address[1]}", sleep=lambda _: None)
    assert fetch.Azure(http).read().nics


def test_google_tells_of_a_change(running: Running) -> None:
    source = running.source("gcp")
    source.read()
    woken: list[float] = []
    source.wait(30, lambda seconds: not woken.append(seconds))
    timer = threading.Timer(0.2, lambda: running.file.write_text(json.dumps(described("gcp", NICS[:1]))))
    timer.start()
    source.wait(30, lambda seconds: not woken.append(seconds))
    assert len(source.read().nics) == 1
    assert woken == []
    running.change("gcp", status=503)
    source.wait(2, lambda seconds: not woken.append(seconds))
    assert len(woken) == 1, "a service that cannot wait is read again after the refresh time"
