"""Neighbours hear at once when an address is at another MAC or on another host. They send nothing meanwhile, so nothing else tells them."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually

ADDRESS, ADDRESS6 = "10.0.0.201", "fd00::c9"
FIRST, SECOND = "02:57:aa:00:00:01", "02:57:aa:00:00:02"


def neighbour(world: World, name: str, address: str) -> str:
    return world.inside(name, "ip", "neigh", "show", address).stdout


@pytest.mark.parametrize("host", ["h1", "h3"])
def test_an_address_that_comes_back_with_another_mac_is_announced(world: World, host: str) -> None:
    """Its neighbours are on the first host and on another one."""
    fields = {"ipv4_address": ADDRESS, "ipv6_address": ADDRESS6}
    with world.temporary("early", "h1", "amber", mac_address=FIRST, **fields):
        for name in ("web", "db"):
            for address in (ADDRESS, ADDRESS6):
                assert world.reaches(name, address)
                eventually(lambda name=name, address=address: FIRST in neighbour(world, name, address))  # type: ignore[misc]
    with world.temporary("late", host, "amber", mac_address=SECOND, **fields):
        for name in ("web", "db"):
            for address in (ADDRESS, ADDRESS6):
                eventually(lambda name=name, address=address: SECOND in neighbour(world, name, address))  # type: ignore[misc]


def test_an_endpoint_that_comes_up_with_the_same_mac_is_announced_too(world: World) -> None:
    listener = ready(world.background("db", *program("hear_mark", "0001" + FIRST.replace(":", "") + "0a0000c9", LIMIT_S, 0)))
    with world.temporary("early", "h1", "amber", mac_address=FIRST, ipv4_address=ADDRESS):
        assert "heard" in listener.communicate()[0]
