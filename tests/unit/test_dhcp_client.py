"""External DHCP: specs of such networks, the hook of the DHCP client, and the leases that follow from it."""

from __future__ import annotations

import os
import subprocess
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from agent.api.sand import NetworkCreate, endpoint_out
from agent.dhcp_client.lease_file import ReportedLease, parse
from agent.dhcp_client.udhcpc import HOOK, Clients, host_name
from controller.compiler.compile import compile_view
from intent.recompute import view
from pipeline.flow import Goto, ToController, UseMeter
from pipeline.tables import Table
from specs.documents.export import export
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.snapshot import snapshot
from specs.store.leased_addresses import kept
from tests.unit import worlds
from tests.unit.scenarios import HOSTS, view_of
from tests.waiting import LIMIT_S
from warren.errors import Invalid, Unavailable

NETWORK = {"id": "lan", "name": "lan", "vxlan_vni": 7}
ENDPOINT = {"id": "e", "network_id": "lan", "host": "h1", "mac_address": "02:59:00:00:00:01", "ofport": 1}
LEASE = {"ip": "100.64.0.10", "mask": "24", "router": "100.64.0.1", "lease": "3600", "serverid": "100.64.0.1"}


def test_endpoint_records_without_lease_fields_are_read() -> None:
    for value, answers in ((True, True), (False, False)):
        network = decode(Network, NETWORK | {"dhcp": value, "ip_range": "10.0.0.0/24"})
        assert (network.answers, network.external, network.data()["dhcp"]) == (answers, False, value)
    external = decode(Network, NETWORK | {"dhcp": "external", "ipv6_range": "fd00::/64"})
    assert (external.answers, external.external, external.data()["dhcp"]) == (False, True, "external")


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"dhcp": "outside"}, "dhcp", "true, false or external"),
        ({"dhcp": 1}, "dhcp", "true, false or external"),
        ({"dhcp": "external", "ip_range": "10.0.0.0/24"}, "ip_range", "the external server leases the addresses"),
        ({"dhcp": "external", "mode": "nat"}, "mode", "flat, with dhcp: external"),
        ({"dhcp": "external", "dns": ["192.0.2.53"]}, "dns", "the external server announces it"),
        ({"dhcp": "external", "domain": "example.org"}, "domain", "the external server announces it"),
    ],
)
def test_network_settings_that_contradict_external_dhcp_are_refused(fields: dict[str, Any], path: str, expected: str) -> None:
    with pytest.raises(Invalid, match=expected) as error:
        decode(Network, NETWORK | fields, "network")
    assert error.value.path == f"network.{path}"


def test_a_request_without_ranges_makes_none_up() -> None:
    assert NetworkCreate(name="lan", dhcp="external").values("lan")["ip_range"] is None
    assert NetworkCreate(name="lan", dhcp=True).values("lan")["ip_range"] is not None


def test_an_external_address_has_one_writer() -> None:
    """Others write what they knew of it, and that may be old."""
    plain = decode(Endpoint, ENDPOINT)
    leased = decode(Endpoint, ENDPOINT | {"ipv4_address": "100.64.0.10", "leased_prefix": 24})
    assert kept(plain, plain) == plain
    assert kept(leased, plain.model_copy(update={"labels": {"a": "b"}})) == leased.model_copy(update={"labels": {"a": "b"}})
    assert kept(plain, leased) == plain
    fixed = decode(Endpoint, ENDPOINT | {"ipv4_address": "10.0.0.9"})
    assert kept(plain, fixed) == fixed


def test_an_external_address_is_shown_with_its_mask_and_not_exported() -> None:
    leased = decode(Endpoint, ENDPOINT | {"ipv4_address": "100.64.0.10", "leased_prefix": 24})
    shown = endpoint_out(leased, {"lan": decode(Network, NETWORK | {"dhcp": "external"})}, {})
    assert (shown["target_veth_ip"], shown["leased"]) == ("100.64.0.10/24", True)
    state = snapshot(
        (key, value, born)
        for born, (key, value) in enumerate(
            [*HOSTS, worlds.network("lan", 7, dhcp="external"), worlds.endpoint("e", "lan", "h1", 2, 1, v6=False, leased=True)], 1
        )
    )
    assert "ipv4_address" not in export(state)


@pytest.mark.parametrize(
    ("network", "leased", "reason"),
    [
        ({"dhcp": "external"}, True, None),
        ({"dhcp": "external"}, False, "outside the range"),
        ({"v4": False}, True, "outside the range"),
        ({}, True, None),  # by chance it is of the range: then contests settle whose it is
    ],
)
def test_an_endpoint_with_an_address_not_leased_in_its_network_is_closed(
    network: dict[str, Any], leased: bool, reason: str | None
) -> None:
    entries = [
        *HOSTS,
        worlds.network("amber", 7, v6=False, **network),
        worlds.endpoint("e", "amber", "h1", 2, 1, v6=False, leased=leased),
    ]
    seen = view(snapshot((k, v, born) for born, (k, v) in enumerate(entries, 1)), "h1", {"e": 1}, None)
    problems = [problem.reason for problem in seen.problems if problem.about == "endpoint/e"]
    assert (reason is None and not problems) or (reason is not None and reason in problems[0])


def test_dhcp_packets_of_external_networks_do_not_go_to_the_controller() -> None:
    """The server outside is asked through the port's meter, past the ACLs."""
    flows = [flow for flow in compile_view(view_of("dhcp-external", "h1")).flows if flow.origin.kind in ("endpoint", "network")]
    assert not [flow for flow in flows if any(isinstance(action, ToController) for action in flow.actions)]
    questions = [flow for flow in flows if flow.table is Table.DHCP]
    assert len(questions) == 3
    assert all([type(action) for action in flow.actions] == [UseMeter, Goto] for flow in questions)


# ---- the hook -------------------------------------------------------------------------------------------------------------


def hook(directory: Path, event: str, **variables: str) -> str | None:
    """What is written after an event."""
    environment = {"PATH": os.environ["PATH"], "WARREN_LEASES": str(directory), "WARREN_ENDPOINT": "e.1", **variables}
    subprocess.run([str(HOOK), event], env=environment, check=True, timeout=LIMIT_S)
    assert not (directory / ".e.1").exists()
    lease_file = directory / "e.1"
    return lease_file.read_text() if lease_file.exists() else None


def test_a_starting_dhcp_client_keeps_the_known_lease(tmp_path: Path) -> None:
    assert hook(tmp_path, "deconfig") is None
    assert hook(tmp_path, "nak") is None
    text = hook(tmp_path, "bound", **LEASE)
    assert text is not None
    assert parse(text) == ReportedLease(IPv4Interface("100.64.0.10/24"), (("default", "100.64.0.1"),), 3600)


@pytest.mark.parametrize(
    ("events", "address", "reason"),
    [
        (("bound", "renew"), True, ""),
        (("bound", "deconfig"), False, "ran out"),
        (("bound", "nak", "deconfig"), False, "NAK"),
        (("bound", "nak", "deconfig", "bound"), True, ""),
        (("leasefail",), False, "no DHCP server answers"),
        (("bound", "deconfig", "leasefail", "deconfig"), False, "no DHCP server answers"),
    ],
)
def test_each_hook_event_changes_the_lease_as_documented(
    tmp_path: Path, events: tuple[str, ...], address: bool, reason: str
) -> None:
    hook(tmp_path, "deconfig")
    text = [hook(tmp_path, event, **(LEASE if event in ("bound", "renew") else {})) for event in events][-1]
    assert text is not None
    lease = parse(text)
    assert (lease.address is not None) is address
    assert reason in lease.reason


# ---- what it means ------------------------------------------------------------------------------------------------------------


def lease_lines(**fields: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in {"event": "bound", "ip": "100.64.0.10", "mask": "24", **fields}.items())


def test_option_121_takes_the_place_of_the_router() -> None:
    assert parse(lease_lines(router="100.64.0.1 100.64.0.2")).routes == (("default", "100.64.0.1"),)
    static = "10.0.0.0/8 100.64.0.9 0.0.0.0/0 100.64.0.3 192.0.2.1/32 0.0.0.0 100.64.0.0/24 0.0.0.0"
    assert parse(lease_lines(router="100.64.0.1", staticroutes=static)).routes == (
        ("10.0.0.0/8", "100.64.0.9"), ("default", "100.64.0.3"), ("192.0.2.1/32", "0.0.0.0"),
    )  # fmt: skip
    assert parse(lease_lines(mask="32", router="100.64.0.1")).routes == (("default", "100.64.0.1"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"ip": "0.0.0.0"}, {"ip": "127.0.0.1"}, {"ip": "224.0.0.1"}, {"ip": "255.255.255.255"}, {"ip": "169.254.1.1"}, {"ip": ""},
        {"mask": "0"}, {"mask": "33"}, {"ip": "fd00::1"}, {"router": "nobody"}, {"staticroutes": "10.0.0.0/8"}, {"lease": "long"},
    ],
)  # fmt: skip
def test_a_lease_that_no_endpoint_can_have_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="DHCP lease"):
        parse(lease_lines(**fields))


@pytest.mark.parametrize(("router", "length"), [("", 24), ("100.64.0.1", 24), ("100.64.9.1", 20), ("100.64.0.10", 24)])
def test_without_a_mask_the_router_is_on_the_network(router: str, length: int) -> None:
    assert parse(lease_lines(mask="", router=router)).address == IPv4Interface(f"100.64.0.10/{length}")


def test_a_host_without_udhcpc_reports_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dhcp_client.udhcpc.PATHS", str(tmp_path))
    with pytest.raises(Unavailable, match="Debian's package udhcpc"):
        Clients(tmp_path / "dhcp").start("e", "/proc/self/ns/net", "eth0", None, None)


def test_a_foreign_process_with_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    """Its pid is another's by now."""
    clients = Clients(tmp_path)
    clients.pids.mkdir()
    (clients.pids / "e").write_text(f"{os.getpid()}\n")
    assert clients.endpoints() == {"e"}
    assert not clients.lives("e")
    clients.end("e")
    assert clients.endpoints() == set()


@pytest.mark.parametrize(
    ("name", "sent"), [("web-1", "web-1"), ("web_1.prod", "web-1-prod"), ("x" * 80, "x" * 63), ("_a_", "a"), ("__", "")]
)
def test_the_host_name_that_a_dhcp_client_sends(name: str, sent: str) -> None:
    assert host_name(name) == sent


def test_two_hosts_resolve_a_duplicated_external_address_alike() -> None:
    """The first created has it, whoever leased it first."""
    entries = [*HOSTS, worlds.network("lan", 7, dhcp="external")]
    entries += [worlds.endpoint(f"e{i}", "lan", f"h{i}", 2, i, v6=False, leased=True) for i in (1, 2)]
    entries[-1] = (entries[-1][0], entries[-1][1].replace("02:57:0a:00:00:02", "02:57:0a:00:00:03"))
    for host in ("h1", "h2", "h3"):
        seen = view(snapshot((k, v, born) for born, (k, v) in enumerate(entries, 1)), host, {"e1": 1, "e2": 2}, None)
        assert [(p.about, p.reason) for p in seen.problems] == [
            ("endpoint/e2", f"{IPv4Address('10.0.0.2')} belongs to endpoint e1")
        ]
