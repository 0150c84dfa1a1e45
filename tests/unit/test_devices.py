"""Interfaces that others have made: how they were is kept, whoever comes and goes at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.endpoints.devices import Devices
from agent.linux import devices
from agent.linux.devices import Device, Earlier
from agent.linux.interface import Desired, Link

DESIRED = Desired(
    veth="own0", netns=None, interface=None, mac="02:00:00:00:00:01", mtu=1446, addresses=(), gateways=(), offload_off=False, enable_ipv6=False
)  # fmt: skip


def test_who_takes_an_interface_that_is_just_being_given_back_keeps_how_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mtus, restoring, go_on = [1500], threading.Event(), threading.Event()

    def read(desired: Desired) -> Device:
        return Device(link=Link(index=7, name=desired.veth, mac=desired.mac, mtu=mtus[0], up=True), kind="tap")

    def take(desired: Desired) -> None:
        mtus[0] = desired.mtu

    def restore(name: str, earlier: Earlier) -> None:
        mtus[0] = earlier.mtu
        restoring.set()
        assert go_on.wait(30)

    monkeypatch.setattr(devices, "usable", read)
    monkeypatch.setattr(devices, "take", take)
    monkeypatch.setattr(devices, "give_back", restore)
    interfaces = Devices(tmp_path)
    interfaces.take(DESIRED)
    leaving = threading.Thread(target=interfaces.give_back, args=("own0",))
    coming = threading.Thread(target=interfaces.take, args=(DESIRED,))
    leaving.start()
    assert restoring.wait(30)
    coming.start()
    coming.join(0.2)  # it ends at once if nothing holds it
    go_on.set()
    leaving.join(30)
    coming.join(30)
    assert interfaces.noted() == {"own0"}
    interfaces.give_back("own0")
    assert mtus == [1500]
