"""Ranges that cannot work are refused where a network is created, with the reason."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.documents.difference import diff
from specs.documents.document import parse
from specs.model.base import decode
from specs.model.network import Network
from specs.model.ranges import UNUSABLE, WIDEST, check_ranges, unusable
from specs.snapshot import Snapshot
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.0.0.0/1", "0.0.0.0/8"), ("0.0.0.0/0", "0.0.0.0/8"), ("0.0.0.0/24", "0.0.0.0/8"), ("0.1.0.0/16", "0.0.0.0/8"),
        ("127.0.0.0/8", "127.0.0.0/8"), ("127.1.0.0/24", "loopback"), ("126.0.0.0/7", "127.0.0.0/8"),
        ("169.254.0.0/16", "link-local"), ("169.254.7.0/24", "link-local"), ("169.0.0.0/8", "link-local"),
        ("224.0.0.0/24", "multicast"), ("239.1.0.0/16", "multicast"), ("192.0.0.0/2", "multicast"),
        ("240.0.0.0/24", "reserved"), ("255.255.255.0/24", "broadcast"), ("250.0.0.0/8", "reserved"),
        ("10.0.0.0/7", "wider than /8"),
        ("::/8", "reserved"), ("::/64", "reserved"), ("::/0", "reserved"), ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "translated"), ("0:0:0:1::/64", "reserved"), ("::/96", "reserved"),
        ("100::/64", "discard"), ("fe80::/64", "link-local"), ("fe80:1::/32", "link-local"), ("ff02::/16", "multicast"),
        ("fc00::/7", "wider than /16"), ("fd00::/8", "wider than /16"), ("8000::/1", "link-local"),
    ],
)  # fmt: skip
def test_ranges_that_cannot_work(value: str, reason: str) -> None:
    assert reason in str(unusable(ip_network(value, strict=False)))


@pytest.mark.parametrize(
    "value",
    ["10.0.0.0/8", "10.0.0.0/30", "172.16.0.0/12", "192.168.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "100.64.0.0/10",
     "8.8.8.0/24", "1.0.0.0/8", "223.255.255.0/24", "fd00::/64", "fc00::/16", "2001:db8::/32", "2000::/16", "fec0::/64"],
)  # fmt: skip
def test_ranges_that_work(value: str) -> None:
    assert unusable(ip_network(value)) is None


@given(st.integers(0, 2**32 - 1), st.integers(8, 30))
def test_an_ipv4_range_is_usable_if_no_address_of_it_is_in_a_block(address: int, length: int) -> None:
    value = ip_network((address, length), strict=False)
    ends = (value[0], value[-1])
    inside = any(end in block for block, _ in UNUSABLE for end in ends if block.version == 4)
    around = any(block[0] in value for block, _ in UNUSABLE if block.version == 4)
    assert (unusable(value) is not None) == (inside or around)
    assert WIDEST[4] == 8


def test_the_error_names_path_value_and_reason() -> None:
    network = decode(Network, {"id": "n", "name": "n", "vxlan_vni": 1, "ipv6_range": "64:ff9b::/96"})
    with pytest.raises(Invalid) as error:
        check_ranges(network, "networks[0]")
    assert (error.value.path, error.value.value) == ("networks[0].ipv6_range", "64:ff9b::/96")
    assert "RFC 6052" in error.value.expected


def test_a_document_is_refused_before_anything_is_changed_and_old_records_are_still_read() -> None:
    document = parse("networks: [{name: amber, ip_range: 10.0.0.0/24}, {name: odd, ip_range: 240.0.0.0/24}]")
    with pytest.raises(Invalid, match=r"networks\[1\].ip_range: '240.0.0.0/24'"):
        diff(document, Snapshot())
    record = decode(Network, {"id": "odd", "name": "odd", "vxlan_vni": 1, "ip_range": "240.0.0.0/24"})
    changes = diff(parse("networks: [{name: odd, ip_range: 240.0.0.0/24, mtu: 1400}]"), Snapshot(networks={"odd": record}))
    assert [change.action for change in changes] == ["update"]
