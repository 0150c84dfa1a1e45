"""DHCP and router advertisements as bytes. Requests are assembled by hand; answers are decoded by Ryu's library."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.dhcp import router, v4, v6
from controller.dhcp.answer import answer
from controller.dhcp.frames import Answer
from controller.dhcp.lease import SERVER6, SERVER_MAC, DhcpLease, lease_of
from controller.dhcp.server import Dhcp
from controller.telemetry.metrics import ControllerMetrics
from intent.incremental.index import Index
from pipeline.protocols import mac_bytes
from specs.model.base import decode
from specs.model.derived import link_local
from specs.model.network import Network
from specs.snapshot import Snapshot, snapshot
from tests.depth import examples
from tests.ryu_packets import dhcp, dhcp6, ethernet, icmpv6, ipv4, ipv6, packet, packet_utils, udp
from tests.unit import worlds
from tests.unit.test_metrics import STATE
from warren.errors import Invalid

MAC = "02:57:0a:00:00:02"
OWN4, OWN6, HERE = IPv4Address("10.0.0.2"), IPv6Address("fd00::2"), link_local(MAC)
SERVER4 = "10.0.0.1"


def world(**network: Any) -> Snapshot:
    """Endpoint web_1 on a network in mode nat, unless told otherwise."""
    key, text = worlds.network("amber", 7, mode="nat", dhcp=True)
    spoken = {"dns": ["192.0.2.53", "2001:db8::53", "192.0.2.54"], "domain": "example.org", "dhcp_lease_s": 600}
    spoken["dhcp_routes"] = [{"to": "10.99.0.0/17", "via": "10.0.0.9"}]  # type: ignore[list-item]
    name, endpoint = worlds.endpoint("web", "amber", "h1", 2, 1)
    entries = [
        worlds.host("h1", "198.18.0.11"),
        (key, json.dumps(json.loads(text) | spoken | network)),
        (name, json.dumps(json.loads(endpoint) | {"name": "web_1"})),
    ]
    return snapshot((k, v, i) for i, (k, v) in enumerate(entries, 1))


def lease_for(**network: Any) -> DhcpLease:
    lease = lease_of(world(**network), "web")
    assert lease is not None
    return lease


LEASE = lease_for()
FLAT = lease_for(mode="flat", dhcp_routes=[])

# ---- DHCPv4 -----------------------------------------------------------------------------------------------------------


def question(
    kind: int, *options: tuple[int, bytes], ciaddr: str = "0.0.0.0", flags: int = 0, mac: str = MAC, giaddr: str = "0.0.0.0",
    sname: bytes = b"", file: bytes = b"", op: int = 1,
) -> bytes:  # fmt: skip
    """A client's frame."""
    fixed = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s", op, 1, 6, 0, 0xABCD, 0, flags, IPv4Address(ciaddr).packed, bytes(4), bytes(4),
        IPv4Address(giaddr).packed, mac_bytes(mac), sname, file,
    )  # fmt: skip
    options_sent = b"".join(bytes((code, len(value))) + value for code, value in ((53, bytes((kind,))), *options))
    payload = fixed + b"\x63\x82\x53\x63" + options_sent + b"\xff"
    return sent(payload, 4, 67)


def sent(payload: bytes, version: int, port: int) -> bytes:
    """A datagram from the endpoint, with zero checksums: the server does not look at them."""
    datagram = struct.pack("!HHHH", port + 1 if version == 4 else port - 1, port, 8 + len(payload), 0) + payload
    if version == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(datagram), 17, 1) + HERE.packed + v6.ALL_SERVERS.packed
    return b"\xff" * 6 + mac_bytes(MAC) + (b"\x08\0" if version == 4 else b"\x86\xdd") + head + datagram


def reply(frame: bytes, lease: DhcpLease = LEASE) -> tuple[Answer, Any, dict[int, bytes]]:
    """The answer as Ryu reads it, its checksums looked at, and its options."""
    reply_sent = answer(frame, lease)
    assert reply_sent.frame is not None, reply_sent
    read = packet.Packet(reply_sent.frame)
    ip, datagram = read.get_protocol(ipv4.ipv4), read.get_protocol(udp.udp)
    assert packet_utils.checksum(reply_sent.frame[14:34]) == 0
    payload = reply_sent.frame[42:]
    pseudo = struct.pack("!4s4sHH", IPv4Address(ip.src).packed, IPv4Address(ip.dst).packed, 17, datagram.total_length)
    assert packet_utils.checksum(pseudo + reply_sent.frame[34:]) == 0
    assert (datagram.src_port, datagram.dst_port, datagram.total_length) == (67, 68, len(payload) + 8)
    assert read.get_protocol(ethernet.ethernet).src == SERVER_MAC
    message = dhcp.dhcp.parser(payload)[0]
    assert (message.op, message.xid, message.chaddr) == (2, 0xABCD, MAC)
    return reply_sent, (read, ip, message), {option.tag: option.value for option in message.options.option_list}


def test_a_discover_is_answered_with_all_options_of_the_network() -> None:
    offer, (read, ip, message), options = reply(question(v4.DISCOVER))
    assert (offer.question, offer.reply, offer.ignored) == ("discover", "offer", "")
    assert (message.yiaddr, ip.src, ip.dst) == ("10.0.0.2", SERVER4, "10.0.0.2")
    assert read.get_protocol(ethernet.ethernet).dst == MAC
    assert len(offer.frame or b"") >= 342
    lists = {code: options.pop(code) for code in (51, 58, 59)}
    assert {code: int.from_bytes(value, "big") for code, value in lists.items()} == {51: 600, 58: 300, 59: 525}
    assert options == {
        53: b"\x02", 54: bytes((10, 0, 0, 1)), 1: bytes((255, 255, 255, 0)), 3: bytes((10, 0, 0, 1)),
        6: bytes((192, 0, 2, 53, 192, 0, 2, 54)), 12: b"web-1", 15: b"example.org", 26: (1446).to_bytes(2, "big"),
        121: bytes((0, 10, 0, 0, 1, 17, 10, 99, 0, 10, 0, 0, 9)),
    }  # fmt: skip


BOOT = {
    "server": "10.0.0.9", "file": "all.kpxe", "root_path": "nfs:/srv/root",
    "files": {"bios": "undionly.kpxe", "efi-x86_64": "ipxe.efi", "http-x86_64": "http://10.0.0.9/x.efi", "ipxe": "http://10.0.0.9/boot.ipxe"},
}  # fmt: skip
X86_64 = (93, b"\0\x07")


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ((), "all.kpxe"),
        (((93, b"\0\0"),), "undionly.kpxe"),
        ((X86_64,), "ipxe.efi"),
        (((93, b"\0\x09"),), "ipxe.efi"),
        (((93, b"\0\x0b"),), "all.kpxe"),
        (((93, b"\0\x0b\0\x07"),), "ipxe.efi"),
        (((93, b"\0"),), "all.kpxe"),
        (((77, b"iPXE"), X86_64), "http://10.0.0.9/boot.ipxe"),
        (((77, b"\x04iPXE"), X86_64), "http://10.0.0.9/boot.ipxe"),
        (((77, b"other"), X86_64), "ipxe.efi"),
        (((60, b"HTTPClient:Arch:00016"), (93, b"\0\x10")), "http://10.0.0.9/x.efi"),
    ],
)
def test_the_boot_file_follows_from_the_architecture_and_from_ipxe(options: tuple[tuple[int, bytes], ...], file: str) -> None:
    offer, (_, _, message), answered = reply(question(v4.DISCOVER, *options), lease_for(boot=BOOT))
    assert (message.siaddr, answered[66], answered[17]) == ("10.0.0.9", b"10.0.0.9", b"nfs:/srv/root")
    assert answered[67] == file.encode()
    assert (offer.frame or b"")[42 + 108 : 42 + 236].rstrip(b"\0") == file.encode()
    assert answered.get(60) == (b"HTTPClient" if options and options[0][0] == 60 else None)


def test_a_refusal_and_a_network_without_boot_say_nothing_of_it() -> None:
    _, (_, _, message), answered = reply(question(v4.REQUEST, (50, bytes((10, 0, 0, 77)))), lease_for(boot=BOOT))
    assert answered[53] == bytes((v4.NAK,))
    assert message.siaddr == "0.0.0.0"
    assert not {17, 60, 66, 67} & answered.keys()
    assert not {17, 42, 60, 66, 67, 119} & reply(question(v4.DISCOVER, X86_64))[2].keys()


def test_time_servers_and_domains_to_search_are_announced() -> None:
    answered = reply(question(v4.DISCOVER), lease_for(ntp=["10.0.0.8", "10.0.0.9"], search=["prolo", "example.org"]))[2]
    assert answered[42] == bytes((10, 0, 0, 8, 10, 0, 0, 9))
    assert answered[119] == b"\x05prolo\0\x07example\x03org\0"


@pytest.mark.parametrize(
    ("network", "path"),
    [
        ({"boot": {"server": "10.0.0.9"}}, "boot"),
        ({"boot": {"file": "x"}}, "boot.server"),
        ({"boot": {"server": "fd00::9", "file": "x"}}, "boot.server"),
        ({"boot": {"server": "10.0.0.9", "file": "x" * 128}}, "boot.file"),
        ({"boot": {"server": "10.0.0.9", "file": "a b"}}, "boot.file"),
        ({"boot": {"server": "10.0.0.9", "files": {"amiga": "x"}}}, "boot.files"),
        ({"ntp": ["pool.example.org"]}, "ntp[0]"),
        ({"search": ["a..b"]}, "search[0]"),
        ({"search": ["a" * 63 + "." + "b" * 63, "c" * 63 + "." + "d" * 63]}, "search"),
    ],
)
def test_wrong_settings_of_network_boot_are_refused(network: dict[str, Any], path: str) -> None:
    key, text = worlds.network("amber", 7, mode="nat", dhcp=True)
    with pytest.raises(Invalid) as refused:
        decode(Network, json.loads(text) | network, "network")
    assert refused.value.path.startswith(f"network.{path}")


@pytest.mark.parametrize(
    ("network", "path"),
    [
        ({"reservations": [{"mac": "52:54:00:00:00:01"}]}, "reservations[0]"),
        ({"reservations": [{"mac": "53:54:00:00:00:01", "ipv4_address": "10.0.0.5"}]}, "reservations[0].mac"),
        ({"reservations": [{"mac": "52:54:00:00:00:01", "ipv4_address": "10.0.1.5"}]}, "reservations[0].ipv4_address"),
        ({"reservations": [{"mac": "52:54:00:00:00:01", "ipv4_address": "10.0.0.255"}]}, "reservations[0].ipv4_address"),
        ({"reservations": [{"mac": "52:54:00:00:00:01", "ipv4_address": "10.0.0.1"}]}, "reservations[0].ipv4_address"),
        ({"reservations": [{"mac": "52:54:00:00:00:01", "ipv6_address": "fd01::5"}]}, "reservations[0].ipv6_address"),
        ({"reservations": [{"mac": "52:54:00:00:00:01", "ipv4_address": f"10.0.0.{i}"} for i in (5, 6)]}, "reservations[1].mac"),
        (
            {"reservations": [{"mac": f"52:54:00:00:00:0{i}", "ipv4_address": "10.0.0.5"} for i in (5, 6)]},
            "reservations[1].ipv4_address",
        ),
        ({"dhcp_pool": "all"}, "dhcp_pool"),
        ({"dhcp_pool": {"first": "10.0.0.9"}}, "dhcp_pool"),
        ({"dhcp_pool": {"first": "10.0.0.9", "last": "10.0.0.5"}}, "dhcp_pool.last"),
        ({"dhcp_pool": {"first": "10.0.1.9", "last": "10.0.1.10"}}, "dhcp_pool.first"),
        ({"dhcp_pool": {"first": "10.0.0.9", "last": "10.0.0.10", "lease_s": 1}}, "dhcp_pool"),
    ],
)
def test_wrong_reservations_and_pools_are_refused(network: dict[str, Any], path: str) -> None:
    key, text = worlds.network("amber", 7, mode="nat", dhcp=True)
    with pytest.raises(Invalid) as refused:
        decode(Network, json.loads(text) | network, "network")
    assert refused.value.path.startswith(f"network.{path}")


def test_leases_of_the_pool_are_short() -> None:
    def seconds(**fields: Any) -> int:
        return int.from_bytes(reply(question(v4.DISCOVER), lease_for(**fields))[2][51], "big")

    assert seconds(dhcp_pool={"first": "10.0.0.2", "last": "10.0.0.9"}) == 30
    assert seconds(dhcp_pool={"first": "10.0.0.2", "last": "10.0.0.9", "lease_s": 45}) == 45
    assert seconds(dhcp_pool={"first": "10.0.0.3", "last": "10.0.0.9"}) == 600


def test_without_a_gateway_the_server_is_link_local_and_there_is_no_router() -> None:
    _, (_, ip, message), options = reply(question(v4.DISCOVER), FLAT)
    assert (ip.src, options[54]) == ("169.254.67.1", bytes((169, 254, 67, 1)))
    assert 3 not in options
    assert options[121] == bytes((32, 169, 254, 67, 1, 0, 0, 0, 0))  # on the link


def test_with_a_gateway_and_no_routes_there_are_no_classless_ones() -> None:
    assert 121 not in reply(question(v4.DISCOVER), lease_for(dhcp_routes=[]))[2]


ELSEWHERE, OURS, OTHER = (50, bytes((10, 0, 0, 77))), (50, OWN4.packed), (54, bytes((10, 0, 0, 3)))
SERVER = (54, bytes((10, 0, 0, 1)))


@pytest.mark.parametrize(
    ("frame", "result"),
    [
        (question(v4.REQUEST, OURS, SERVER), "ack"),  # it takes the offer
        (question(v4.REQUEST, ELSEWHERE, SERVER), "nak"),
        (question(v4.REQUEST, OURS, OTHER), "not-ours"),  # it takes another's
        (question(v4.REQUEST, OURS), "ack"),  # it begins again
        (question(v4.REQUEST, ELSEWHERE), "nak"),
        (question(v4.REQUEST, ciaddr="10.0.0.2"), "ack"),  # it renews
        (question(v4.REQUEST, ciaddr="10.0.0.77"), "nak"),
        (question(v4.REQUEST), "malformed"),
        (question(v4.REQUEST, (50, b"\x0a\0\0")), "malformed"),
        (question(v4.INFORM, ciaddr="10.0.0.2"), "ack"),
        (question(v4.INFORM, ciaddr="10.0.0.77"), "not-ours"),
        (question(v4.RELEASE, SERVER, ciaddr="10.0.0.2"), ""),
        (question(v4.DECLINE, SERVER, OURS), ""),
        (question(v4.OFFER), "malformed"),
        (question(v4.ACK), "malformed"),
        (question(9), "malformed"),
        (question(v4.DISCOVER, mac="02:57:0a:00:00:03"), "not-its-mac"),
        (question(v4.DISCOVER, giaddr="10.0.0.9"), "relayed"),
        (question(v4.DISCOVER, op=2), "malformed"),
        (question(v4.DISCOVER)[:-20], "truncated"),
        (question(v4.DISCOVER) + bytes(5000), "oversized"),
        (question(v4.DISCOVER).replace(b"\x63\x82\x53\x63", b"BOOT"), "malformed"),
        (question(v4.DISCOVER)[:20] + b"\x20\0" + question(v4.DISCOVER)[22:], "fragment"),
    ],
)
def test_requests(frame: bytes, result: str) -> None:
    outcome = answer(frame, LEASE)
    assert (outcome.reply or outcome.ignored) == result
    assert (outcome.frame is not None) == bool(outcome.reply)


def test_ack_nak_and_inform_say_what_they_should() -> None:
    _, (_, ip, message), options = reply(question(v4.REQUEST, ciaddr="10.0.0.2"))
    assert (message.yiaddr, message.ciaddr, ip.dst, options[53]) == ("10.0.0.2", "10.0.0.2", "10.0.0.2", b"\x05")
    _, (read, ip, message), options = reply(question(v4.REQUEST, ELSEWHERE, (61, b"\x01me")))
    assert (message.yiaddr, message.ciaddr, ip.dst) == ("0.0.0.0", "0.0.0.0", "255.255.255.255")
    assert read.get_protocol(ethernet.ethernet).dst == "ff:ff:ff:ff:ff:ff"
    assert set(options) == {53, 54, 56, 61}
    _, (_, ip, message), options = reply(question(v4.INFORM, ciaddr="10.0.0.2"))
    assert (message.yiaddr, ip.dst) == ("0.0.0.0", "10.0.0.2")
    assert not {51, 58, 59} & set(options)
    assert {6, 15, 26} <= set(options)


def test_a_client_that_asks_for_a_broadcast_gets_one() -> None:
    _, (read, ip, message), _ = reply(question(v4.DISCOVER, flags=0x8000))
    assert (ip.dst, read.get_protocol(ethernet.ethernet).dst, message.flags) == ("255.255.255.255", "ff:ff:ff:ff:ff:ff", 0x8000)


def test_the_identity_of_the_client_comes_back() -> None:
    assert reply(question(v4.DISCOVER, (61, b"\x01abcdef")))[2][61] == b"\x01abcdef"  # RFC 6842


def test_requested_options_come_first_when_not_all_fit() -> None:
    long = lease_for(
        domain=".".join(["a" * 60] * 4), dhcp_routes=[{"to": f"10.{i}.0.0/16", "via": "10.0.0.9"} for i in range(16)]
    )
    small = reply(question(v4.DISCOVER, (55, bytes((15, 12)))), long)[2]
    assert 15 in small
    assert 12 in small
    assert 1 in small
    assert 121 not in small
    offer, _, large = reply(question(v4.DISCOVER, (57, (1200).to_bytes(2, "big"))), long)
    assert {1, 3, 6, 12, 15, 26, 121} <= set(large)
    assert len(offer.frame or b"") - 14 <= 1200
    for limit in (b"", b"\x00\x10", b"\xff\xff"):  # a client cannot ask for less than all must take, nor for more than fits
        frame = answer(question(v4.DISCOVER, (57, limit)), replace(long, mtu=600)).frame
        assert frame is not None
        assert len(frame) - 14 <= 600


def test_options_go_on_in_the_fields_for_names() -> None:
    overload = (52, b"\x03")
    outcome = answer(question(v4.REQUEST, overload, file=bytes((50, 2, 10, 0)), sname=bytes((50, 2, 0, 2, 52, 1, 3))), LEASE)
    assert outcome.reply == "ack"  # in two pieces (RFC 3396), the file's first
    assert answer(question(v4.REQUEST, overload, file=bytes((50, 200))), LEASE).ignored == "truncated"


# ---- DHCPv6 -----------------------------------------------------------------------------------------------------------

ME = (1, b"\0\3\0\1\2W\n\0\0\2")
THEM = (2, v6.DUID)


def option6(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def question6(kind: int, *options: tuple[int, bytes]) -> bytes:
    return sent(bytes((kind,)) + b"xyz" + b"".join(option6(*option) for option in options), 6, 547)


def association(*held: str, identity: bytes = b"eth0") -> tuple[int, bytes]:
    inside = b"".join(option6(5, IPv6Address(address).packed + bytes(8)) for address in held)
    return 3, identity + bytes(8) + inside


def reply6(frame: bytes, lease: DhcpLease = LEASE) -> tuple[Answer, dict[int, list[bytes]]]:
    """The answer, its checksum looked at, and its options as Ryu reads them."""
    outcome = answer(frame, lease)
    assert outcome.frame is not None, outcome
    read = packet.Packet(outcome.frame)
    ip = read.get_protocol(ipv6.ipv6)
    assert (ip.src, ip.dst) == (str(SERVER6), str(HERE))
    assert packet_utils.checksum(IPv6Address(ip.src).packed + IPv6Address(ip.dst).packed + struct.pack("!IHBB", ip.payload_length, 0, 0, 17)
                                 + outcome.frame[54:]) == 0  # fmt: skip
    message = dhcp6.dhcp6.parser(outcome.frame[62:])[0]
    assert message.transaction_id == int.from_bytes(b"xyz", "big")
    options: dict[int, list[bytes]] = {}
    for option in message.options.option_list:
        options.setdefault(option.code, []).append(option.data)
    assert options[2] == [v6.DUID]
    return outcome, options


def addresses(value: bytes) -> dict[str, int]:
    """Address to valid lifetime of an IA_NA."""
    return {
        str(IPv6Address(v[:16])): struct.unpack("!II", v[16:24])[1] for code, v in v6._read(value[12:]) if code == v6.IA_ADDRESS
    }


def status(value: bytes) -> int:
    return int.from_bytes(value[:2], "big")


def test_a_solicit_is_advertised_the_address_or_with_rapid_commit_given_it() -> None:
    outcome, options = reply6(question6(1, ME, association(), (6, struct.pack("!HH", 23, 24))))
    assert (outcome.question, outcome.reply) == ("solicit", "advertise")
    assert options[1] == [ME[1]]
    assert addresses(options[3][0]) == {"fd00::2": 600}
    assert options[3][0][:12] == b"eth0" + struct.pack("!II", 300, 480)
    assert options[23] == [IPv6Address("2001:db8::53").packed]
    assert options[24] == [b"\x07example\x03org\x00"]
    outcome, options = reply6(question6(1, ME, association(), (14, b"")))
    assert outcome.reply == "reply"
    assert options[14] == [b""]
    assert 23 not in options


@pytest.mark.parametrize("kind", [3, 5, 6])
def test_request_renew_and_rebind_get_the_address(kind: int) -> None:
    server = [] if kind == 6 else [THEM]
    _, options = reply6(question6(kind, ME, *server, association("fd00::2", "fd00::77")))
    assert addresses(options[3][0]) == ({"fd00::2": 600} if kind == 3 else {"fd00::2": 600, "fd00::77": 0})


def test_there_is_one_address_and_no_prefix() -> None:
    _, options = reply6(
        question6(3, ME, THEM, association(), association(identity=b"eth1"), (4, b"temp"), (25, b"pref" + bytes(8)))
    )
    assert addresses(options[3][0]) == {"fd00::2": 600}
    assert [status(v6._read(value)[0][1]) for value in (options[3][1][12:], options[4][0][4:], options[25][0][12:])] == [2, 2, 6]


def test_confirm_release_decline_and_information() -> None:
    assert status(reply6(question6(4, ME, association("fd00::2")))[1][13][0]) == 0
    assert status(reply6(question6(4, ME, association("fd00::3")))[1][13][0]) == 4
    for kind in (8, 9):
        assert status(reply6(question6(kind, ME, THEM, association("fd00::2")))[1][13][0]) == 0
    options = reply6(question6(11, (6, struct.pack("!H", 23))))[1]
    assert set(options) == {2, 23}


@pytest.mark.parametrize(
    ("frame", "result"),
    [
        (question6(1, association()), "malformed"),  # who asks?
        (question6(1, ME, THEM), "malformed"),
        (question6(3, ME, association()), "malformed"),
        (question6(3, ME, (2, b"\0\3\0\1other!"), association()), "not-ours"),
        (question6(4, ME), "malformed"),
        (question6(2, ME, THEM), "malformed"),  # a server's words
        (question6(7, ME, THEM), "malformed"),
        (question6(12), "malformed"),
        (question6(1, (1, bytes(200)), association()), "malformed"),
        (question6(1, ME, (3, b"et")), "truncated"),
        (question6(5, ME, THEM, (3, b"eth0" + bytes(8) + b"\0\5\0\x18\0")), "truncated"),
        (question6(1, ME)[:-3], "truncated"),
        (question6(1, ME, association()).replace(v6.ALL_SERVERS.packed, SERVER6.packed), "malformed"),
        (question6(1, ME, association()).replace(HERE.packed, OWN6.packed), "malformed"),
    ],
)
def test_wrong_questions(frame: bytes, result: str) -> None:
    assert answer(frame, LEASE).ignored == result


# ---- router advertisements ------------------------------------------------------------------------------------------------


def solicitation(
    source: IPv6Address = HERE, options: bytes = b"", hops: int = 255, summed: int | None = None, code: int = 0
) -> bytes:
    target = IPv6Address("ff02::2")
    message = bytes((133, code, 0, 0, 0, 0, 0, 0)) + options
    right = packet_utils.checksum(source.packed + target.packed + struct.pack("!IHBB", len(message), 0, 0, 58) + message)
    message = message[:2] + struct.pack("!H", right if summed is None else summed) + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), 58, hops) + source.packed + target.packed
    return b"\x33\x33\0\0\0\2" + mac_bytes(MAC) + b"\x86\xdd" + head + message


def advertised(frame: bytes | None) -> tuple[Any, Any, dict[int, bytes]]:
    """An advertisement as Ryu reads it, its checksum looked at, and its options, which Ryu does not tell apart."""
    assert frame is not None
    read = packet.Packet(frame)
    ip, message = read.get_protocol(ipv6.ipv6), read.get_protocol(icmpv6.icmpv6)
    pseudo = IPv6Address(ip.src).packed + IPv6Address(ip.dst).packed + struct.pack("!IHBB", ip.payload_length, 0, 0, 58)
    assert packet_utils.checksum(pseudo + frame[54:]) == 0
    assert (message.type_, message.code, ip.hop_limit, ip.src) == (134, 0, 255, str(SERVER6))
    options, rest = {}, frame[70:]
    while rest:
        options[rest[0]], rest = rest[2 : rest[1] * 8], rest[rest[1] * 8 :]
    return ip, message.data, options


def test_a_solicitation_is_answered_to_its_sender() -> None:
    outcome = answer(solicitation(options=b"\1\1" + mac_bytes(MAC)), LEASE)
    ip, message, options = advertised(outcome.frame)
    assert (outcome.question, outcome.reply) == ("router-solicitation", "router-advertisement")
    assert (ip.dst, message.rou_l, message.res, message.ch_l) == (str(HERE), 9000, 0b11, 64)  # managed, other
    assert options == {
        1: mac_bytes(SERVER_MAC),
        3: struct.pack("!BBIII", 64, 0x80, 0xFFFF_FFFF, 0xFFFF_FFFF, 0)
        + IPv6Address("fd00::").packed,  # on the link, not autonomous
        5: struct.pack("!HI", 0, 1446),
        25: struct.pack("!HI", 0, 9000) + IPv6Address("2001:db8::53").packed,
    }


def test_without_a_gateway_there_is_no_router() -> None:
    assert advertised(answer(solicitation(), FLAT).frame)[1].rou_l == 0
    assert advertised(router.advertisement(FLAT))[0].dst == "ff02::1"


def test_a_small_mtu_is_no_ipv6_mtu() -> None:
    assert 5 not in advertised(answer(solicitation(), replace(LEASE, mtu=1000)).frame)[2]


def test_an_identity_association_without_an_address_is_answered_too() -> None:
    assert advertised(answer(solicitation(IPv6Address("::")), LEASE).frame)[0].dst == "ff02::1"


@pytest.mark.parametrize(
    ("frame", "result"),
    [
        (solicitation(hops=64), "malformed"),
        (solicitation(summed=1), "malformed"),
        (solicitation(code=1), "malformed"),
        (solicitation(options=b"\1\0" + bytes(6)), "malformed"),  # an option without an end
        (solicitation(options=b"\1\2" + bytes(6)), "truncated"),
        (solicitation(IPv6Address("::"), options=b"\1\1" + bytes(6)), "malformed"),
        (solicitation()[:-4], "truncated"),
    ],
)
def test_wrong_solicitations(frame: bytes, result: str) -> None:
    assert answer(frame, LEASE).ignored == result


def test_an_endpoint_without_an_address_is_not_answered() -> None:
    none = replace(LEASE, ipv4=None, ipv6=None)
    for frame in (question(v4.DISCOVER), question6(1, ME, association()), solicitation()):
        assert answer(frame, none).ignored == "no-address"


# ---- anything at all --------------------------------------------------------------------------------------------------------

GOOD = [
    question(v4.DISCOVER, (55, bytes((1, 3, 6))), (57, b"\x05\xdc"), (61, b"\x01abc")), question(v4.REQUEST, OURS, (52, b"\x03")),
    question6(1, ME, association("fd00::2"), (6, b"\0\x17")), question6(5, ME, THEM, association("fd00::2", "fd00::5")),
    question6(4, ME, association("fd00::2")), solicitation(options=b"\1\1" + mac_bytes(MAC)),
]  # fmt: skip
REASONS = {"truncated", "malformed", "oversized", "fragment", "relayed", "not-its-mac", "not-ours", "no-address"}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good question with bytes changed, left out, doubled, cut off or added."""
    frame = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(12, max(12, len(frame) - 1)))
        what = draw(st.integers(0, 3))
        if what == 0 and at < len(frame):
            frame[at] = draw(st.integers(0, 255))
        elif what == 1:
            del frame[at : at + draw(st.integers(1, 40))]
        elif what == 2:
            frame[at:at] = draw(st.binary(max_size=40))
        else:
            frame[at:at] = frame[at : at + draw(st.integers(1, 400))]
    return bytes(frame)


@st.composite
def wrapped(draw: st.DrawFn) -> bytes:
    """Any bytes where the message should be, so that they get past the headers."""
    payload = draw(st.binary(max_size=700))
    if draw(st.booleans()):
        fixed = question(v4.DISCOVER)[42 : 42 + 240]
        return sent(fixed + payload, 4, 67)
    return sent(bytes((draw(st.integers(1, 13)),)) + b"xyz" + (option6(*ME) if draw(st.booleans()) else b"") + payload, 6, 547)


@given(st.binary(max_size=400) | damaged() | wrapped(), st.sampled_from((LEASE, FLAT, replace(LEASE, ipv4=None, ipv6=None))))
@settings(max_examples=examples(1500))
def test_anything_is_answered_or_ignored_with_a_reason(frame: bytes, lease: DhcpLease) -> None:
    outcome = answer(frame, lease)
    assert outcome == answer(frame, lease)
    assert (outcome.frame is not None) == bool(outcome.reply)
    assert outcome.ignored == "" or outcome.ignored in REASONS
    assert outcome.ignored or outcome.question
    if outcome.frame is not None:
        assert len(outcome.frame) <= 1514
        given_address = outcome.frame[42 + 16 : 42 + 20]
        assert outcome.frame[12:14] != b"\x08\0" or given_address in (bytes(4), OWN4.packed)  # nobody is given another's


# ---- the specs, and who answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"dns": ["10.0.0.300"]}, "network.dns[0]: '10.0.0.300'", "an IPv4 or IPv6 address"),
        ({"dns": "name.example.org"}, "network.dns[0]:", "an IPv4 or IPv6 address"),
        ({"dns": [53]}, "network.dns[0]:", "an IPv4 or IPv6 address"),
        ({"dns": ["192.0.2.1"] * 9}, "dns", "8"),
        ({"domain": "under_score.org"}, "domain", "example.org"),
        ({"dhcp_lease_s": 1}, "dhcp_lease_s", "10"),
        ({"dhcp_routes": [{"to": "10.9.0.1/16", "via": "10.0.0.9"}]}, "dhcp_routes[0].to", "without host bits"),
        (
            {"dhcp_routes": [{"to": "10.9.0.0/16", "via": "10.7.0.9"}]},
            "network.dhcp_routes[0].via: '10.7.0.9'",
            "an address of the network's ip_range",
        ),
        ({"dhcp_routes": [{"to": "10.9.0.0/16"}]}, "dhcp_routes[0].via", "required"),
        ({"ip_range": "169.254.0.0/16", "gateway": "169.254.0.1/16"}, "network.ip_range", "169.254.67.1"),
        ({"ip_range": None, "gateway": None}, "network", "dhcp needs ip_range or ipv6_range"),
    ],
)
def test_lease_options_that_dhcp_cannot_carry_are_refused(fields: dict[str, Any], path: str, expected: str) -> None:
    good = {"id": "a", "name": "a", "vxlan_vni": 1, "dhcp": True, "ip_range": "10.0.0.0/24", "gateway": "10.0.0.1/24"}
    decode(Network, good)
    with pytest.raises(Invalid) as caught:
        decode(Network, good | fields, "network")
    assert path in str(caught.value)
    assert expected in str(caught.value)


def test_a_lease_record_survives_serialization() -> None:
    network = world().networks["amber"]
    assert decode(Network, json.loads(network.encode())) == network == decode(Network, network.model_dump())
    assert [str(server) for server in network.dns] == ["192.0.2.53", "2001:db8::53", "192.0.2.54"]


def test_the_dhcp_server_answers_from_the_current_specs() -> None:
    out: list[tuple[int, bytes]] = []
    index, metrics = Index("h1"), ControllerMetrics(lambda: STATE)
    desk = Dhcp(lambda: index, metrics, lambda: ("0x1", "h1"), lambda port, frame: out.append((port, frame)))

    def put(key: str, data: dict[str, Any], born: int) -> None:
        index.put(key, json.dumps(data), born)
        index.flush()

    def count(metric: str, **label: str) -> float:
        return metrics.registry.get_sample_value(metric, {"dp_id": "0x1", "dp_name": "h1", **label}) or 0.0

    desk.answer("web", question(v4.DISCOVER))  # it is not there yet
    assert out == []
    host_key, host = worlds.host("h1", "198.18.0.11")
    put(host_key, json.loads(host), 1)
    key, text = worlds.network("amber", 7, dhcp=True)
    put(key, json.loads(text), 2)
    name, endpoint = worlds.endpoint("web", "amber", "h1", 2, 1)
    put(name, json.loads(endpoint), 3)
    index.set_endpoint_ports({"web": 9})
    index.flush()
    desk.answer("web", question(v4.DISCOVER))
    assert out.pop()[0] == 9
    put(key, json.loads(text) | {"domain": "example.net"}, 2)
    desk.answer("web", question(v4.DISCOVER))
    assert b"example.net" in out.pop()[1]
    desk.answer("web", b"nonsense")
    assert count("warren_dhcp_ignored_total", reason="truncated") == 1
    assert count("warren_dhcp_asked_total", what="discover") == count("warren_dhcp_told_total", what="offer") == 2
    assert list(desk.advertise()) == [None]
    assert advertised(out.pop()[1])[1].rou_l == 0
    blue, data = worlds.network("blue", 8, v6=False, dhcp=True)
    put(blue, json.loads(data), 4)
    subport, data = worlds.inside("vm", "blue", "h1", 3, 2, "web", 5, v6=False)
    put(subport, json.loads(data), 5)
    desk.answer("vm", question(v4.DISCOVER, mac="02:57:0a:00:00:03"))
    port, frame = out.pop()
    assert (port, frame[12:16]) == (9, b"\x81\0\0\5")  # under its tag on the port of the other
    assert packet.Packet(frame[:12] + frame[16:]).get_protocol(ipv4.ipv4).dst == "10.0.0.3"
    put(key, json.loads(text) | {"dhcp": False}, 2)
    desk.answer("web", question(v4.DISCOVER))
    assert list(desk.advertise()) == []
    assert out == []
