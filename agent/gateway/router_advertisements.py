"""Keeps the host's own IPv6 routes while it forwards.

With `accept_ra` 1 an interface takes routes from router advertisements only as long as the host does not forward, and loses them when
forwarding is switched on; with 2 it takes them in any case (the kernel's ip-sysctl.rst).

`conf/all/accept_ra` has no effect in the kernel, so it stays as it is; `conf/default/accept_ra` is the value that new interfaces begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from specs.model.derived import VETH_PREFIX

CONF = Path("/proc/sys/net/ipv6/conf")
DEFAULT = "default"
FORWARDING_OFF, ALWAYS = "1", "2"  # values of accept_ra
_NEVER = ("all", "lo")


def current() -> dict[str, str]:
    """Return the `accept_ra` of each interface of this host, and of `default`."""
    values: dict[str, str] = {}
    for path in sorted(CONF.iterdir()) if CONF.exists() else ():
        if path.name in _NEVER or path.name.startswith(VETH_PREFIX):
            continue  # the hosts' ends of containers are ports of the bridge, and many
        try:
            values[path.name] = (path / "accept_ra").read_text().strip()
        except OSError:
            continue  # the interface has just been removed
    return values


def to_keep(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values to remember: that of `default`, and those that differ from it."""
    default = values.get(DEFAULT, FORWARDING_OFF)
    return {name: value for name, value in values.items() if name == DEFAULT or value != default}


def to_accept(values: Mapping[str, str]) -> list[str]:
    """Return the interfaces that would lose their routes by forwarding."""
    return [name for name, value in values.items() if value == FORWARDING_OFF]


def to_give_back(values: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """Return the interfaces that had, or would have begun with, `accept_ra` 1 before Warren. Values that somebody else has set meanwhile stay."""
    default = kept.get(DEFAULT, ALWAYS)
    return [name for name, value in values.items() if value == ALWAYS and kept.get(name, default) == FORWARDING_OFF]


def accept() -> None:
    """Let interfaces go on to take routes from router advertisements while the host forwards."""
    _set(to_accept(current()), ALWAYS)


def give_back(kept: Mapping[str, str]) -> None:
    """Undo `accept`; `kept` are the values from before."""
    _set(to_give_back(current(), kept), FORWARDING_OFF)


def _set(names: list[str], value: str) -> None:
    for name in names:
        try:
            (CONF / name / "accept_ra").write_text(value)
        except FileNotFoundError:
            continue  # the interface has just been removed
