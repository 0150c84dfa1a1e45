"""Tunnel profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.results import Result, all_of


@dataclass(frozen=True, kw_only=True)
class Profile(Result):
    """How the tunnel packets of networks travel. `hosts` are as stated (names, `site:NAME`, `all`), `members` those of them that exist.
    `mtu` is `auto` or bytes, `endpoint_mtu` what endpoints get."""

    name: str = ""
    port: int = 0
    listen: str | None = None
    hosts: tuple[str, ...] = ()
    mtu: int | str = "auto"
    encryption: str = "auto"
    cipher: str = "wireguard"
    rule: str | None = None
    endpoint_mtu: int = 0
    members: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def profiles() -> Operation[tuple[Profile, ...]]:
    """All tunnel profiles; `default` is always there."""
    return all_of(Profile, (yield get("/profiles")), "profiles")


def profile(name: str) -> Operation[Profile]:
    """One tunnel profile."""
    return Profile.of((yield get(path("profiles", name))).get("profile"))


def put_profile(
    name: str,
    *,
    hosts: str | Sequence[str] | None = None,
    port: int | None = None,
    listen: str | None = None,
    mtu: int | str | None = None,
    encryption: str | None = None,
    cipher: str | None = None,
    rule: str | None = None,
) -> Operation[Profile]:
    """Create a tunnel profile, or replace the one of that name. `hosts` are names, `site:NAME` or `all`; without a `port` the next free one is
    taken, or the old one stays. `rule` is the overlay rule of SmartOS that it was made from."""
    body = stated(name=name, hosts=hosts, port=port, listen=listen, mtu=mtu, encryption=encryption, cipher=cipher, rule=rule)
    return Profile.of((yield post("/profiles", body)).get("profile"))


def delete_profile(name: str) -> Operation[None]:
    """Delete a tunnel profile; no network may name it."""
    yield delete(path("profiles", name))


def import_rule(name: str, rule: str, *, hosts: str | Sequence[str] | None = None) -> Operation[Profile]:
    """Create a tunnel profile from an overlay rule of SmartOS, or change one."""
    return Profile.of((yield post(path("profiles", name, "rule"), stated(rule=rule, hosts=hosts))).get("profile"))


def export_rule(name: str) -> Operation[str]:
    """A tunnel profile as an overlay rule of SmartOS."""
    return str((yield get(path("profiles", name, "rule"))).get("rule"))


def export_table(name: str, host: str, *, network: str | None = None) -> Operation[dict[str, Any]]:
    """Where each MAC of a profile's networks is, for a host, as SmartOS's search plug-in `files` has it: by MAC."""
    answer = yield get(path("profiles", name, "table"), **stated(host=host, network=network))
    return dict(answer.get("table") or {})


def import_table(table: str, network: str) -> Operation[str]:
    """The endpoints of such a table (JSON text) as a document for `apply`."""
    return str((yield post("/smartos/table", stated(table=table, network=network))).get("document"))
