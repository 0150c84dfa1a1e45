"""Addresses as text."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.protocols import IpAddress, address_text

MANY_ZEROS = st.lists(st.sampled_from((0, 0, 0, 1, 0xFFFF, 0x20A)), min_size=8, max_size=8).map(
    lambda words: IPv6Address(b"".join(word.to_bytes(2, "big") for word in words))
)


@given(st.ip_addresses() | MANY_ZEROS)
@example(IPv6Address("::ffff:10.0.0.1"))
@example(IPv6Address("::10.0.0.1"))
@example(IPv6Address("::"))
@example(IPv6Address("::1"))
@example(IPv6Address("fe80::1%eth0"))
def test_an_address_reads_as_str_gives_it(address: IpAddress) -> None:
    assert address_text(address) == str(address)
