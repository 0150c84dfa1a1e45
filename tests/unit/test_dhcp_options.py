"""DHCPv4's options against RFC 2132, 4578 and 3442: scapy writes the questions and reads the answers."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from controller.dhcp.answer import answer
from tests.unit.test_dhcp import MAC, OWN4, SERVER4, lease_for

BOOT = {
    "server": "10.0.0.254",
    "file": "undionly.kpxe",
    "files": {"efi-x86_64": "ipxe.efi", "ipxe": "http://10.0.0.254/boot.ipxe", "http-x86_64": "http://10.0.0.254/ipxe.efi"},
    "root_path": "/srv/nfs",
}
LEASE = lease_for(
    boot=BOOT, ntp=["10.0.0.254", "10.0.0.253"], search=["prolo", "example.org"], domain="example.org", dhcp_lease_s=600, mtu=1400,
    dns=["192.0.2.53", "192.0.2.54"], dhcp_routes=[{"to": "10.99.0.0/17", "via": "10.0.0.9"}, {"to": "10.98.0.0/16", "via": "10.0.0.9"}],
)  # fmt: skip


def exchange(kind: str, *options: tuple[str | int, Any]) -> tuple[BOOTP, dict[str, Any]]:
    """The answer's header and options."""
    mac = bytes.fromhex(MAC.replace(":", ""))
    question = Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    question /= BOOTP(chaddr=mac, xid=0x1234) / DHCP(options=[("message-type", kind), *options, "end"])
    outcome = answer(bytes(question), LEASE)
    assert outcome.frame is not None, outcome
    frame = Ether(outcome.frame)
    assert (frame[UDP].sport, frame[UDP].dport, frame[BOOTP].xid) == (67, 68, 0x1234)
    for layer in (IP, UDP):  # scapy computes the checksums that are taken away
        whole = frame.copy()
        del whole[layer].chksum
        assert Ether(bytes(whole))[layer].chksum == frame[layer].chksum
    values = {
        option[0]: option[1] if len(option) == 2 else option[1:] for option in frame[DHCP].options if isinstance(option, tuple)
    }
    assert frame[DHCP].options.index("end") >= len(values)
    return frame[BOOTP], values


def test_an_offer_has_the_options_of_rfc_2132_and_3442() -> None:
    header, options = exchange("discover", ("param_req_list", [1, 3, 6, 12, 15, 17, 26, 42, 51, 58, 59, 66, 67, 119, 121]))
    assert (header.op, header.yiaddr, header.siaddr) == (2, str(OWN4), "10.0.0.254")
    assert {name: options.get(name) for name in ("message-type", "subnet_mask", "router", "interface-mtu", "server_id")} == {
        "message-type": 2, "subnet_mask": "255.255.255.0", "router": SERVER4, "interface-mtu": 1400, "server_id": SERVER4,
    }  # fmt: skip
    assert options["name_server"] == ("192.0.2.53", "192.0.2.54")
    assert options["NTP_server"] == ("10.0.0.254", "10.0.0.253")
    assert (options["domain"], options["root_disk_path"]) == (b"example.org", b"/srv/nfs")
    assert (options["lease_time"], options["renewal_time"], options["rebinding_time"]) == (600, 300, 525)
    # RFC 3442: with option 121 a client ignores option 3, so the default route is there, too
    assert set(options["classless_static_routes"]) == {"10.99.0.0/17:10.0.0.9", "10.98.0.0/16:10.0.0.9", f"0.0.0.0/0:{SERVER4}"}
    assert options[119] == b"\x05prolo\0\x07example\x03org\0"  # RFC 3397, 2: names as in RFC 1035


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ((), b"undionly.kpxe"),
        ((("pxe_client_architecture", b"\0\0"), ("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001")), b"undionly.kpxe"),
        ((("pxe_client_architecture", b"\0\x07"), ("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003016")), b"ipxe.efi"),
        ((("pxe_client_architecture", b"\0\x09"),), b"ipxe.efi"),
        ((("pxe_client_architecture", b"\0\x0b"),), b"undionly.kpxe"),
        ((("pxe_client_architecture", b"\0\x10"), ("vendor_class_id", b"HTTPClient:Arch:00016")), b"http://10.0.0.254/ipxe.efi"),
        ((("pxe_client_architecture", b"\0\x07"), (77, b"iPXE")), b"http://10.0.0.254/boot.ipxe"),
        ((("pxe_client_architecture", b"\0\0"), (77, b"\x04iPXE")), b"http://10.0.0.254/boot.ipxe"),  # RFC 3004 gives each class a length
    ],
)  # fmt: skip
def test_the_boot_file_is_for_the_architecture_of_rfc_4578(options: tuple[tuple[str | int, Any], ...], file: bytes) -> None:
    header, received = exchange("discover", ("param_req_list", [66, 67, 60]), *options)
    assert received["boot-file-name"].rstrip(b"\0") == file
    assert received["tftp_server_name"] == b"10.0.0.254"
    assert header.file.rstrip(b"\0") == file
    if file.endswith(b"/ipxe.efi"):
        assert received["vendor_class_id"] == b"HTTPClient"
