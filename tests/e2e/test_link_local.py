"""Link-local addresses that a container chose itself (RFC 7217) work; those derived from another's MAC are refused."""

from __future__ import annotations

import pytest

from intent.gateway import GATEWAY_MAC
from specs.model.derived import link_local
from tests.e2e.conftest import World
from tests.e2e.test_packets import advertisement, heard, unheard
from tests.waiting import eventually

CHOSEN = {"web": "fe80::a1b2:c3d4:e5f6:1", "app": "fe80::a1b2:c3d4:e5f6:2", "db": "fe80::a1b2:c3d4:e5f6:3"}
ALL_NODES = ("33:33:00:00:00:01", "ff02::1")


@pytest.mark.parametrize("target", ["app", "db"])
def test_containers_with_chosen_link_local_addresses_reach_each_other(world: World, target: str) -> None:
    """On one host and across hosts, with duplicate address detection, and each with addresses that the switch answers for."""
    try:
        for name in ("web", target):
            assert world.inside(name, "ip", "addr", "add", f"{CHOSEN[name]}/64", "dev", "eth0").returncode == 0

            def settled(name: str = name) -> bool:
                shown = world.inside(name, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "to", CHOSEN[name]).stdout
                assert "dadfailed" not in shown
                return CHOSEN[name] in shown and "tentative" not in shown

            eventually(settled)
        for source, to in (("web", CHOSEN[target]), (target, CHOSEN["web"]), ("web", str(link_local(world.mac[target])))):
            source_address = CHOSEN[source]
            ping = world.inside(
                source, "ping", "-6", "-I", "eth0", "-I", source_address, "-c", "3", "-i", "0.2", "-W", "2", f"{to}%eth0"
            )
            assert ping.returncode == 0, ping.stdout + ping.stderr
    finally:
        for name in ("web", target):
            world.inside(name, "ip", "addr", "del", f"{CHOSEN[name]}/64", "dev", "eth0")


def test_advertisements_of_link_local_addresses(world: World) -> None:
    me, chosen = world.mac["web"], "fe80::a1b2:c3d4:e5f6:9"

    def sending(src: str, target: str, option: str = me) -> tuple[World, str, str, bytes, bytes]:
        frame = advertisement(me, ALL_NODES[0], src, ALL_NODES[1], target, option)
        return world, "web", "db", frame, frame[-32:]

    assert heard(*sending(chosen, chosen))
    for other in (str(link_local(world.mac["app"])), str(link_local(GATEWAY_MAC)), "fe80::1234:56ff:fe78:9abc"):
        assert unheard(*sending(other, other))
        assert unheard(*sending(chosen, other))
    assert unheard(*sending(chosen, chosen, world.mac["app"]))
    assert unheard(*sending(chosen, world.ipv6["app"]))
