"""IPsec between sites: what charon is told, how a reading differs, which SAs end or begin. Without a daemon."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from agent.encryption.health import SILENT_S
from agent.encryption.ipsec import (
    ROTATED_S,
    IpsecLink,
    IpsecReading,
    differences,
    foreign,
    missing,
    outdated,
    stale,
    tunnels,
    wanted_ipsec,
)
from agent.encryption.link import TUNNEL_SETTINGS, LinkInterface
from agent.encryption.tunnels import TunnelPlan
from agent.linux.charon import CHILD, CharonState, SecurityAssociation
from intent.sites import EncryptedPair, pairs
from specs.ciphers import IPSEC, encrypted_mtu
from specs.model.derived import link_names
from specs.model.host import Host
from specs.model.profile import BUILT_IN
from specs.model.site import parse_outside
from warren.errors import Invalid


def host(number: int, **fields: Any) -> Host:
    values = {
        "name": f"h{number}",
        "vtep": f"192.0.2.{number}",
        "site": f"s{number}",
        "outside": {"address": f"203.0.113.{number}"},
        "tunnel_address": f"100.125.0.{number}",
    }
    return Host.model_validate(values | fields)


def pair(number: int, **fields: Any) -> EncryptedPair:
    values: dict[str, Any] = {
        "peer": f"h{number}",
        "cipher": IPSEC,
        "tunnel_address": IPv4Address(f"100.125.0.{number}"),
        "source": ip_address("203.0.113.1"),
        "target": ip_address(f"203.0.113.{number}"),
        "port": 4500,
    }
    return EncryptedPair(**values | fields)


NAMES = link_names("machine", "h1")
PLAN = TunnelPlan(names=NAMES, local=host(1), pairs={"h2": pair(2), "h3": pair(3)}, secrets={"h2": "hidden2", "h3": "hidden3"})


def link(plan: TunnelPlan = PLAN, *, kernel: bool = False) -> IpsecLink:
    return wanted_ipsec(plan, socket="/run/warren/ipsec-h1.vici", kernel=kernel)


def sa(peer: str, **fields: Any) -> SecurityAssociation:
    values: dict[str, Any] = {
        "connection": link().names.get(peer, peer),
        "id": "1",
        "initiator": True,
        "age_s": 50,
        "keys_age_s": 50,
    }
    return SecurityAssociation(**values | {"received": 10, "sent": 20} | fields)


STATE = CharonState(
    secrets=frozenset(link().secrets), connections=frozenset(link().connections), sas=(sa("h2"), sa("h3", initiator=False))
)
READING = IpsecReading(
    settings=link().settings,
    state=STATE,
    interface=LinkInterface(up=True, mtu=1400, routes=frozenset(("100.125.0.2/32", "100.125.0.3/32")), settings=TUNNEL_SETTINGS),
    anchored=True,
)
INTERFACE = READING.interface
assert INTERFACE is not None


@pytest.mark.parametrize(
    ("reading", "part"),
    [
        (READING, None),
        (IpsecReading(), "charon"),
        (replace(READING, state=None), "charon"),
        (replace(READING, settings=None), "charon"),
        (replace(READING, settings=READING.settings + " "), "charon"),  # type: ignore[operator]
        (replace(READING, interface=None), "interface"),
        (replace(READING, anchored=False), "anchor"),
        (replace(READING, interface=replace(INTERFACE, up=False)), "device"),
        (replace(READING, interface=replace(INTERFACE, mtu=1438)), "device"),
        (replace(READING, interface=replace(INTERFACE, routes=frozenset(("100.125.0.2/32",)))), "device"),
        (replace(READING, interface=replace(INTERFACE, routes=INTERFACE.routes | {"100.125.0.9/32"})), "device"),
        (replace(READING, interface=replace(INTERFACE, settings={})), "device"),
        (replace(READING, state=replace(STATE, secrets=frozenset())), "secrets"),
        (replace(READING, state=replace(STATE, secrets=STATE.secrets | {"h2-wrong"})), "secrets"),
        (replace(READING, state=replace(STATE, connections=frozenset())), "connections"),
        (replace(READING, state=replace(STATE, connections=STATE.connections | {"h9-old"})), "connections"),
        (replace(READING, state=replace(STATE, sas=(*STATE.sas, sa("h2-old")))), "sas"),
    ],
)
def test_each_difference_has_its_part(reading: IpsecReading, part: str | None) -> None:
    assert {name for name, _ in differences(link(), reading)} == ({part} if part else set())


@pytest.mark.parametrize(
    "change",
    [
        {"target": ip_address("203.0.113.99")},
        {"source": ip_address("203.0.113.98")},
        {"port": 4501},
        {"tunnel_address": IPv4Address("100.125.0.99")},
    ],
)
def test_what_changes_a_pair_changes_its_connection_alone(change: dict[str, Any]) -> None:
    changed = link(replace(PLAN, pairs={"h2": pair(2, **change), "h3": pair(3)}))
    assert changed.names["h2"] != link().names["h2"]
    assert changed.names["h3"] == link().names["h3"]
    assert [lost.connection for lost in foreign(changed, STATE)] == [link().names["h2"]]


def test_another_host_changes_nothing_of_the_others() -> None:
    more = link(replace(PLAN, pairs={**PLAN.pairs, "h4": pair(4)}, secrets={**PLAN.secrets, "h4": "hidden4"}))
    assert link().connections.items() <= more.connections.items()
    assert link().secrets.items() <= more.secrets.items()
    assert more.settings == link().settings


def test_another_secret_has_another_id_and_keeps_the_connection() -> None:
    rotated = link(replace(PLAN, secrets={"h2": "other", "h3": "hidden3"}))
    assert len(rotated.secrets.keys() - link().secrets.keys()) == 1
    assert rotated.connections == link().connections


def test_a_pair_without_a_secret_gets_no_connection_yet() -> None:
    assert link(replace(PLAN, secrets={"h3": "hidden3"})).names.keys() == {"h3"}


def test_secrets_are_in_no_text_and_in_no_file() -> None:
    assert "hidden" not in repr(PLAN)
    assert "hidden" not in repr(link())
    assert "hidden" not in link().settings


def test_both_hosts_of_a_pair_want_the_same() -> None:
    back = pair(1, source=ip_address("203.0.113.2"), target=ip_address("203.0.113.1"))
    (theirs,) = link(TunnelPlan(names=NAMES, local=host(2), pairs={"h1": back}, secrets={"h1": "hidden2"})).connections.values()
    ours = link().connections[link().names["h2"]]
    for one, other in (("local_addrs", "remote_addrs"), ("local", "remote"), ("local_port", "remote_port")):
        assert (ours[one], ours[other]) == (theirs[other], theirs[one])
    assert ours["children"][CHILD]["local_ts"] == theirs["children"][CHILD]["remote_ts"] == ["100.125.0.1/32"]
    assert ours["proposals"] == theirs["proposals"]


def test_esp_is_the_kernels_or_strongswans() -> None:
    assert "kernel-libipsec" in link().settings
    assert "make_before_break = yes" in link().settings, "a new secret would lose packets"
    assert "kernel-libipsec" not in link(kernel=True).settings
    child = link(kernel=True).connections[link(kernel=True).names["h2"]]["children"][CHILD]
    assert child["if_id_in"] == child["if_id_out"] == str(link().if_id)


def test_missing_sas_are_begun() -> None:
    def lacking(*sas: SecurityAssociation) -> list[str]:
        return missing(link(), replace(STATE, sas=sas))

    assert lacking() == ["h2", "h3"]
    assert lacking(sa("h2"), sa("h3")) == []
    assert lacking(sa("h2"), sa("h3", age_s=None, keys_age_s=None)) == [], "it is under way"
    assert lacking(sa("h2"), sa("h3", keys_age_s=None)) == ["h3"], "an IKE_SA whose CHILD_SA is gone"


def test_sas_by_which_nothing_comes_end() -> None:
    old = int(SILENT_S) + 1
    state = replace(STATE, sas=(sa("h2", keys_age_s=old), sa("h3", keys_age_s=old)))
    assert [each.connection for each in stale(link(), state, {"h2", "h9"})] == [link().names["h2"]]
    assert stale(link(), STATE, set()) == []
    assert stale(link(), replace(STATE, sas=(sa("h2", keys_age_s=1),)), {"h2"}) == [], "it has just been made anew"


def test_a_new_secret_is_used_once_both_hosts_have_it() -> None:
    aged = replace(STATE, sas=(sa("h2", age_s=500), sa("h3", age_s=500, initiator=False)))
    assert outdated(link(), aged, {"h2": ROTATED_S - 1, "h3": ROTATED_S + 1}) == []
    assert [each.connection for each in outdated(link(), aged, {"h2": ROTATED_S + 1})] == [link().names["h2"]]
    assert outdated(link(), replace(STATE, sas=(sa("h2", age_s=1),)), {"h2": ROTATED_S + 1}) == [], "begun since"


def test_tunnels_are_up_with_a_child_sa() -> None:
    shown = tunnels(
        PLAN, link(), replace(STATE, sas=(sa("h2", keys_age_s=70), sa("h2", keys_age_s=4), sa("h3", keys_age_s=None)))
    )
    assert (shown["h2"].reason, shown["h2"].age_s, shown["h2"].received, shown["h2"].sent) == (None, 4, 20, 40)
    assert "no IPsec SA with 203.0.113.3:4500" in (shown["h3"].reason or "")
    assert all("does not run" in (tunnel.reason or "") for tunnel in tunnels(PLAN, link(), None).values())


@pytest.mark.parametrize(
    ("outside_mtu", "outside", "mtu"),
    [
        (1500, "203.0.113.1", 1400),  # libipsec's limit
        (9000, "203.0.113.1", 1400),
        (1460, "203.0.113.1", 1398),
        (1461, "203.0.113.1", 1398),
        (1464, "203.0.113.1", 1400),
        (1460, "2001:db8::1", 1378),
        (1280, "2001:db8::1", 1198),
    ],
)
def test_the_size_of_packets(outside_mtu: int, outside: str, mtu: int) -> None:
    assert encrypted_mtu(IPSEC, outside_mtu, ip_address(outside)) == mtu


def test_ipsec_needs_no_public_key_and_has_a_port() -> None:
    world = {"h1": host(1), "h2": host(2, outside={"address": "10.0.0.2", "public": "203.0.113.2", "ipsec_port": 4501})}
    complete, lacking = pairs(world["h1"], world, {"default": BUILT_IN.model_copy(update={"cipher": IPSEC})})
    assert lacking == {}
    assert complete["h2/ipsec"].endpoint == "203.0.113.2:4501"
    assert pairs(world["h1"], world)[1] == {"h2": "host h1 has published no key"}


def test_the_port_is_written_short() -> None:
    assert parse_outside("203.0.113.1,ipsec_port=4501", "WARREN_OUTSIDE").ipsec_port == 4501
    for text in (
        "203.0.113.1,ipsec_port=0",
        "203.0.113.1,ipsec_port=65536",
        "203.0.113.1,ipsec_port=x",
        "203.0.113.1,ipsec_port",
    ):
        with pytest.raises(Invalid):
            parse_outside(text, "WARREN_OUTSIDE")
