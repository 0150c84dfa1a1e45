"""Paths between sites, and what encrypted tunnels stand on: plans, differences and health, without a kernel."""

from __future__ import annotations

import shutil
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import load
from agent.encryption import wireguard
from agent.encryption.feature import of_outside
from agent.encryption.guard import Guard, ruleset
from agent.encryption.health import SILENT_S, PairHealth
from agent.encryption.link import (
    FAR_SETTINGS,
    NEAR_SETTINGS,
    TUNNEL_SETTINGS,
    LinkInterface,
    LinkReading,
    differences,
    wanted_link,
)
from agent.encryption.tunnels import TunnelPlan
from agent.encryption.wireguard import HANDSHAKE_LIMIT_S, WireguardReading, wanted_wireguard
from agent.linux.nft import counted
from agent.linux.wireguard import Traffic, WireguardDevice
from intent.sites import (
    EncryptedPair,
    crosses,
    encrypted_mark,
    encrypted_mtus,
    endpoint_mtu,
    is_secured,
    pairs,
    tunnel_end,
    vtep,
    without_path,
)
from ovsdb.rows import encrypted_hosts, encrypted_text
from specs.model.derived import link_names
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import BUILT_IN, Profile
from specs.model.site import OutsideAddress, Site, parse_outside
from specs.paths import paths_mtu
from specs.snapshot import Snapshot
from warren.errors import Invalid

NAMES = link_names("machine", "h1")


def host(number: int, site: str | None = None, *, outside: bool = True, **fields: Any) -> Host:
    far: dict[str, Any] = {}
    if outside and site:
        far = {
            "outside": OutsideAddress(address=ip_address(f"203.0.113.{number}")),
            "outside_mtu": 1500,
            "public_key": f"key{number}",
        }
        far["tunnel_address"] = IPv4Address(f"100.125.0.{number}")
    return Host.model_validate({"name": f"h{number}", "vtep": f"192.0.2.{number}", "site": site, **far, **fields})


hosts = st.lists(st.tuples(st.sampled_from((None, "s1", "s2", "s3")), st.booleans()), min_size=1, max_size=6).map(
    lambda drawn: {f"h{i}": host(i, site, outside=outside) for i, (site, outside) in enumerate(drawn, 1)}
)


@given(hosts)
def test_two_hosts_agree_on_their_path(world: dict[str, Host]) -> None:
    for a in world.values():
        complete, lacking = pairs(a, world)
        assert not complete.keys() & lacking.keys()
        for b in world.values():
            if a is b:
                continue
            assert (b.name in complete or b.name in lacking) == crosses(b, a) == crosses(a, b)
            back, lacking_back = pairs(b, world)
            assert (b.name in complete, b.name in lacking) == (a.name in back, a.name in lacking_back)
            if not crosses(b, a):
                assert vtep(b, a, ()) == str(b.vtep)
            else:
                assert vtep(b, a, ()) is None, "nothing goes to another site before the encryption is up"
                assert b.name not in complete or vtep(b, a, {b.name}) == str(b.tunnel_address)
                assert vtep(b, a, {b.name}) != str(b.vtep)


def test_hosts_without_sites_are_reached_as_ever() -> None:
    assert tunnel_end(host(2), host(1)) == ip_address("192.0.2.2")
    assert pairs(host(1), {"h1": host(1), "h2": host(2)}) == ({}, {})
    assert vtep(host(2), None, ()) == "192.0.2.2"


def test_a_host_without_an_outside_is_named() -> None:
    world = {"h1": host(1, "s1"), "h2": host(2, "s2", outside=False)}
    assert pairs(world["h1"], world) == ({}, {"h2": "host h2 has no outside address"})
    assert pairs(world["h2"], world) == ({}, {"h1": "host h2 has no outside address"})


@pytest.mark.parametrize(
    ("world", "mtu"),
    [
        ([host(1), host(2)], 1446),
        ([host(1, "s1"), host(2, "s1")], 1446),
        ([host(1, "s1"), host(2, "s2")], 1366),
        ([host(1, "s1", underlay_mtu=9000), host(2, "s2", underlay_mtu=9000)], 1366),
        ([host(1, "s1"), host(2, "s2", outside_mtu=1460)], 1326),  # as GCP's
        ([host(1, "s1", outside_mtu=9000), host(2, "s2", outside_mtu=9000)], 1446),
        ([host(1, "s1", underlay_mtu=1400), host(2, "s2")], 1346),
    ],
)
def test_the_worst_path_decides_the_mtu(world: list[Host], mtu: int) -> None:
    assert paths_mtu(world) == mtu
    small = Network.model_validate({"id": "n", "name": "n", "vxlan_vni": 5, "mtu": 1200})
    assert endpoint_mtu(Snapshot(hosts={host.name: host for host in world}), small) == 1200


def test_a_site_may_carry_less_than_its_hosts_know() -> None:
    world = [host(1, "s1"), host(2, "s1")]
    assert paths_mtu(world, {"s1": Site(name="s1", underlay_mtu=1400)}) == 1346
    assert encrypted_mtus(host(1, "s1"), [host(2, "s2", outside_mtu=1460), host(3, "s1"), host(4, "s1", underlay_mtu=1400)]) == {
        "100.125.0.2": 1380,
        "100.125.0.3": 1420,
        "100.125.0.4": 1320,
    }


def test_the_cipher_decides_the_size_of_packets() -> None:
    world = [host(1, "s1"), host(2, "s2")]
    ipsec = BUILT_IN.model_copy(update={"cipher": "ipsec"})
    assert paths_mtu(world, {}, ipsec) == 1346
    assert paths_mtu([host(1, "s1"), host(2, "s1")], {}, ipsec) == 1446, "inside a site it is plain"
    assert paths_mtu([host(1, "s1"), host(2, "s1")], {}, ipsec.model_copy(update={"encryption": "always"})) == 1346
    assert encrypted_mtus(world[0], world, profiles={"default": ipsec}) == {"100.125.0.2": 1400}
    both = {"secure": ipsec.model_copy(update={"name": "secure", "number": 1, "port": 4790})}
    assert encrypted_mtus(world[0], world, profiles=both) == {"100.125.0.2": 1400}, "that of the smaller one"


def test_profiles_with_two_ciphers_make_two_tunnels() -> None:
    world = {"h1": host(1, "s1"), "h2": host(2, "s2"), "h3": host(3, "s3")}
    values = {"name": "secure", "number": 1, "port": 4790, "cipher": "ipsec", "hosts": ("h1", "h2")}
    secure = BUILT_IN.model_copy(update=values)
    complete, lacking = pairs(world["h1"], world, {"secure": secure})
    assert {mark: (pair.peer, pair.cipher, pair.endpoint) for mark, pair in complete.items()} == {
        "h2": ("h2", "wireguard", "203.0.113.2:51820"),
        "h2/ipsec": ("h2", "ipsec", "203.0.113.2:4500"),
        "h3": ("h3", "wireguard", "203.0.113.3:51820"),
    }
    assert lacking == {}
    assert vtep(world["h2"], world["h1"], {"h2"}, secure) is None, "its profile's tunnel is not up"
    assert vtep(world["h2"], world["h1"], {"h2/ipsec"}, secure) == "100.125.0.2"
    assert vtep(world["h2"], world["h1"], {"h2/ipsec"}) is None


def test_encryption_inside_a_site_is_between_inside_addresses() -> None:
    world = {"h1": host(1, "s1"), "h2": host(2, "s1")}
    always = BUILT_IN.model_copy(update={"encryption": "always", "cipher": "ipsec"})
    pair = pairs(world["h1"], world, {"default": always})[0]["h2/ipsec"]
    assert (str(pair.source), pair.endpoint) == ("192.0.2.1", "192.0.2.2:4500")


def test_encrypted_hosts_hold_for_one_boot() -> None:
    assert encrypted_hosts(encrypted_text(("h3", "h2"), "boot"), "boot") == {"h2", "h3"}
    assert encrypted_hosts(encrypted_text((), "boot"), "boot") == set()
    assert encrypted_hosts(encrypted_text(("h2",), "before"), "boot") == encrypted_hosts(None, "boot") == set()


@pytest.mark.parametrize(
    ("text", "endpoint", "interface"),
    [
        ("203.0.113.1", "203.0.113.1:51820", None),
        ("10.0.0.1@eth1,public=203.0.113.9", "203.0.113.9:51820", "eth1"),
        ("2001:db8::1@eth1, port=7", "[2001:db8::1]:7", "eth1"),
    ],
)
def test_outside_addresses_are_written_short(text: str, endpoint: str, interface: str | None) -> None:
    outside = parse_outside(text, "WARREN_OUTSIDE")
    assert (outside.endpoint, outside.interface) == (endpoint, interface)


@pytest.mark.parametrize("text", ["x", "@eth1", "203.0.113.1@", "203.0.113.1,x=1", "203.0.113.1,port=0", "203.0.113.1,port=x",
                                  "203.0.113.1,public=", "203.0.113.1@a/b", "203.0.113.0/24", "1"])  # fmt: skip
def test_malformed_outside_addresses_are_refused_by_the_settings(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        load({"WARREN_OUTSIDE": text})
    assert refused.value.path == "WARREN_OUTSIDE"


def test_a_site_of_the_settings_has_a_name() -> None:
    assert load({"WARREN_SITE": "bts1"}).site == "bts1"
    with pytest.raises(Invalid):
        load({"WARREN_SITE": "a b"})


PAIR = EncryptedPair(
    peer="h2",
    tunnel_address=IPv4Address("100.125.0.2"),
    source=ip_address("203.0.113.1"),
    target=ip_address("203.0.113.2"),
    port=51820,
    public_key="key2",
)
LINK = wanted_link(host(1, "s1"), names=NAMES, userspace=True)
assert LINK is not None
PLAN = TunnelPlan(names=NAMES, local=host(1, "s1"), pairs={"h2": PAIR}, secrets={"h2": "secret"})
WG = wanted_wireguard(PLAN, "private")
PEER = WG.peers["key2"]
DEVICE = WireguardDevice(private_key="private", port=51820, peers={"key2": (PEER, Traffic())})
READING = LinkReading(
    netns=True,
    near=LinkInterface(up=True, mtu=1500, settings=NEAR_SETTINGS),
    far=LinkInterface(up=True, mtu=1500, routes=frozenset(("100.125.0.1/32",)), settings=FAR_SETTINGS),
    bridged=True,
    holder=LinkInterface(up=True, mtu=1500, addresses=frozenset(("100.125.0.1/16",))),
)
TUNNEL = LinkInterface(up=True, mtu=1420, routes=frozenset(("100.125.0.0/16",)), settings=TUNNEL_SETTINGS)
WG_READING = WireguardReading(interface=TUNNEL, device=DEVICE)


def parts(reading: LinkReading | WireguardReading, configured: dict[str, str] | None = None) -> list[str]:
    assert LINK is not None
    if isinstance(reading, LinkReading):
        return [part for part, _ in differences(LINK, reading)]
    return [part for part, _ in wireguard.differences(WG, reading, configured or {})]


def test_a_link_as_wanted_differs_in_nothing() -> None:
    assert parts(READING) == parts(WG_READING) == []


@pytest.mark.parametrize(
    ("reading", "part"),
    [
        (LinkReading(), "netns"),
        (replace(READING, near=None), "veth"),
        (replace(READING, far=None), "veth"),
        (replace(READING, near=replace(READING.near, settings={})), "near"),  # type: ignore[type-var]
        (replace(READING, near=replace(READING.near, addresses=frozenset(("100.125.0.1/16",)))), "near"),  # type: ignore[type-var]
        (replace(READING, bridged=False), "bridge"),
        (replace(READING, holder=LinkInterface(up=True, mtu=1500)), "holder"),
        (replace(READING, far=replace(READING.far, routes=frozenset())), "far"),  # type: ignore[type-var]
        (replace(READING, far=replace(READING.far, settings={})), "far"),  # type: ignore[type-var]
        (replace(WG_READING, interface=None), "wireguard"),
        (replace(WG_READING, device=None), "wireguard"),
        (replace(WG_READING, interface=replace(TUNNEL, up=False)), "device"),
        (replace(WG_READING, interface=replace(TUNNEL, mtu=1500)), "device"),
        (replace(WG_READING, interface=replace(TUNNEL, routes=frozenset())), "device"),
        (replace(WG_READING, device=replace(DEVICE, private_key="other")), "device"),
        (replace(WG_READING, device=replace(DEVICE, peers={})), "peers"),
        (replace(WG_READING, ports=frozenset((4789,))), "ports"),
        (replace(WG_READING, device=replace(DEVICE, peers={"key2": (replace(PEER, secret="wrong"), Traffic())})), "peers"),
        (replace(WG_READING, device=replace(DEVICE, peers={**DEVICE.peers, "key9": (PEER, Traffic())})), "peers"),
    ],
)
def test_each_difference_of_a_link_has_its_part(reading: LinkReading | WireguardReading, part: str) -> None:
    assert set(parts(reading)) == {part}


def test_where_a_peer_has_two_ciphers_wireguard_routes_its_ports() -> None:
    both = wanted_wireguard(replace(PLAN, ports=frozenset((4789,))), "private")
    assert {part for part, _ in wireguard.differences(both, WG_READING, {})} == {"device", "ports"}
    routed = replace(TUNNEL, routes=frozenset(both.routes))
    assert wireguard.differences(both, replace(WG_READING, interface=routed, ports=frozenset((4789,))), {}) == []


def test_a_peer_that_has_moved_stays_where_it_moved_to() -> None:
    moved = replace(WG_READING, device=replace(DEVICE, peers={"key2": (replace(PEER, endpoint="198.51.100.7:4"), Traffic())}))
    assert parts(moved, {"key2": PEER.endpoint}) == []
    assert parts(moved, {"key2": "203.0.113.99:51820"}) == ["peers"], "its record has another address than was set last"


def test_a_pair_without_a_secret_gets_no_peer() -> None:
    assert not wanted_wireguard(replace(PLAN, secrets={}), "private").peers
    assert wanted_link(host(1), names=NAMES, userspace=False) is None


def test_a_tunnel_is_up_while_something_is_heard() -> None:
    clock = [1000.0]
    health = PairHealth(lambda: clock[0])

    def state(handshake_at: int, received: int, *, secrets: tuple[str, ...] = ("h2",), device: bool = True) -> str | None:
        peers = {"key2": (PEER, Traffic(handshake_at=handshake_at, received=received, sent=1))}
        tunnels = wireguard.tunnels(PLAN, replace(DEVICE, peers=peers) if device else None, 5000.0)
        (pair,) = health.states({"h2": PAIR}, tunnels, dict.fromkeys(secrets, "x"))
        assert pair.up == (pair.reason is None)
        return pair.reason

    assert "no handshake" in (state(0, 0) or "")
    assert state(4990, 100) is None
    clock[0] += SILENT_S + 1
    assert "nothing comes back" in (state(4990, 100) or "")
    assert state(4990, 200) is None
    assert "no handshake" in (state(int(5000 - HANDSHAKE_LIMIT_S - 2), 300) or "")
    assert "no secret" in (state(4990, 400, secrets=()) or "")
    assert "does not run" in (state(4990, 500, device=False) or "")


def test_a_host_registers_although_its_outside_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # wg is not installed
    fields = of_outside(tmp_path / "key", lambda address: None)
    assert fields(host(1, "s1")) == {"outside_mtu": 1500, "public_key": None}
    assert fields(host(1)) == {"outside_mtu": None, "public_key": None}


def test_a_private_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    if shutil.which("wg") is None:
        pytest.skip("needs wireguard-tools")
    fields = of_outside(tmp_path / "run" / "key", lambda address: 1460)
    first = fields(host(1, "s1"))
    assert first["outside_mtu"] == 1460
    assert fields(host(1, "s1")) == first
    assert (tmp_path / "run" / "key").stat().st_mode & 0o777 == 0o600


def test_the_guard_drops_and_counts_in_both_directions() -> None:
    rules = ruleset(Guard(interface="out0", decrypted=("br-crypto", "wc1"), ports=(14789, 4789)))
    for direction, counter in (("iifname", "received"), ("oifname", "sent")):
        assert f'{direction} "out0" udp dport {{ 4789, 14789 }} counter name {counter} drop' in rules
    plain = 'iifname != { "br-crypto", "wc1", "lo" } ip daddr 100.125.0.0/16 udp dport { 4789, 14789 } counter name received drop'
    assert plain in rules, "inside a site the kernel would take what comes to the tunnel address"
    listed = [{"metainfo": {}}, {"counter": {"name": "sent", "packets": 3}}, {"counter": {"name": "received", "packets": 0}}]
    assert counted(listed) == {"sent": 3, "received": 0}


# ---- tunnel profiles ---------------------------------------------------------------------------------------------------------


def profile(name: str = "p", number: int = 1, **fields: Any) -> Profile:
    return Profile.model_validate({"name": name, "port": 4789 + number, "number": number, "hosts": ["all"], **fields})


profiles = st.builds(
    lambda hosts, encryption, cipher: profile(hosts=hosts, encryption=encryption, cipher=cipher),
    st.sampled_from((["all"], ["h1", "h2"], ["site:s1"], ["site:s2", "h1", "h9"])),
    st.sampled_from(("auto", "always", "never")),
    st.sampled_from(("wireguard", "ipsec")),
)


@given(hosts, profiles)
def test_two_hosts_agree_on_their_path_in_a_profile(world: dict[str, Host], p: Profile) -> None:
    everything = {encrypted_mark(name, p.cipher) for name in world}
    for a in world.values():
        complete, lacking = pairs(a, world, {p.name: p})
        for b in world.values():
            if a == b:
                continue
            members = p.has(a) and p.has(b)
            to_b, to_a = tunnel_end(b, a, p), tunnel_end(a, b, p)
            assert is_secured(a, b, p) == is_secured(b, a, p)
            if not members or (p.encryption == "never" and a.site != b.site):
                assert to_b is to_a is None
            elif is_secured(b, a, p):
                assert (to_b, to_a) == (b.tunnel_address, a.tunnel_address)
                assert b.name in complete or b.name in lacking
                assert vtep(b, a, (), p) is None, "nothing before encryption is up"
                assert vtep(b, a, {encrypted_mark(b.name, "rot13")}, p) is None, "nor by another cipher"
                assert vtep(b, a, everything, p) == (str(to_b) if to_b else None)
            else:
                assert (to_b, to_a) == (b.vtep, a.vtep)
                assert a.site == b.site
            assert vtep(b, a, everything, None) is None


def test_inside_a_site_peers_send_to_inside_addresses() -> None:
    world = {h.name: h for h in (host(1, "s1"), host(2, "s1"), host(3, "s2"))}
    safe = {"safe": profile("safe", encryption="always")}
    complete, _ = pairs(world["h1"], world, safe)
    assert {name: pair.endpoint for name, pair in complete.items()} == {"h2": "192.0.2.2:51820", "h3": "203.0.113.3:51820"}
    assert pairs(world["h1"], world)[0].keys() == {"h3"}
    assert pairs(world["h1"], world, {"safe": profile("safe", hosts=["h1", "h3"], encryption="always")})[0].keys() == {"h3"}


def test_what_a_profile_has_no_path_to_is_said() -> None:
    world = {h.name: h for h in (host(1, "s1"), host(2, "s1"), host(3, "s2"))}
    plain = profile("plain", encryption="never")
    assert list(without_path(world["h1"], world, {"plain": plain})) == [
        "profile plain: no path to host h3 of site s2, because encryption is never"
    ]
    assert list(without_path(world["h3"], world, {"plain": profile("plain", encryption="never", hosts=["site:s1"])})) == []


@pytest.mark.parametrize(
    ("fields", "mtu"),
    [
        ({}, 1366), ({"encryption": "always"}, 1366), ({"hosts": ["site:s1"]}, 1446), ({"hosts": ["site:s1"], "encryption": "always"}, 1366),
        ({"hosts": ["site:s1"], "encryption": "never"}, 1446), ({"mtu": 1300}, 1300), ({"mtu": 1440, "hosts": ["h1"]}, 1440), ({"mtu": 9000}, 1366),
        ({"hosts": ["h4"]}, 1346), ({"hosts": ["h4"], "encryption": "always"}, 1266), ({"hosts": ["h9"]}, 1446),
    ],
)  # fmt: skip
def test_the_worst_path_of_a_profile_decides_the_mtu(fields: dict[str, Any], mtu: int) -> None:
    world = [host(1, "s1"), host(2, "s1"), host(3, "s2"), host(4, "s3", underlay_mtu=1400)]
    assert paths_mtu(world[:3] if "hosts" not in fields else world, profile=profile(**fields)) == mtu
    network = Network.model_validate({"id": "n", "name": "n", "vxlan_vni": 5, "profile": "p", "profile_number": 1})
    members = {h.name: h for h in (world[:3] if "hosts" not in fields else world)}
    assert endpoint_mtu(Snapshot(hosts=members, profiles={"p": profile(**fields)}), network) == mtu
