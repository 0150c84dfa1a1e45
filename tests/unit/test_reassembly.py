"""Fragments are not held by the userspace datapath, whoever turned that on."""

from __future__ import annotations

import pytest

from agent.connections.reassembly import Reassembly
from warren.errors import Unavailable


class Datapath:
    """What Open vSwitch keeps, behind its own commands."""

    def __init__(self, *enabled: str) -> None:
        self.enabled = set(enabled)

    def appctl(self, command: str, *words: str) -> str:
        if command == "dpctl/dump-dps":
            return "netdev@ovs-netdev\n"
        assert words[0] == "netdev@ovs-netdev"  # the kernel's datapath refuses these commands
        if command == "dpctl/ipf-set-disabled":
            self.enabled.discard(words[1])
        return "".join(f"        {version} enabled: {int(version in self.enabled)}\n" for version in ("v4", "v6"))


@pytest.mark.parametrize("enabled", [("v4", "v6"), ("v4",), ("v6",), ()])
def test_held_fragments_are_a_difference_until_they_are_no_more(enabled: tuple[str, ...]) -> None:
    datapath = Datapath(*enabled)
    reassembly = Reassembly(lambda: "netdev@ovs-netdev", datapath.appctl)
    assert [line.split()[4] for line in reassembly.differences()] == [f"IP{version}" for version in enabled]
    reassembly._step(frozenset())
    assert not datapath.enabled
    assert reassembly.differences() == []


def test_the_kernels_datapath_is_left_alone() -> None:
    reassembly = Reassembly(lambda: "system@ovs-system", Datapath("v4", "v6").appctl)
    reassembly._step(frozenset())
    assert reassembly.differences() == []


def test_nothing_is_asked_before_there_is_a_datapath() -> None:
    def appctl(command: str, *words: str) -> str:
        raise Unavailable("ovs-vswitchd", "its control socket does not answer")

    Reassembly(lambda: "netdev@ovs-netdev", appctl)._step(frozenset())
