"""Overlay rules: the options of `dladm create-overlay` but the VNI, as SmartOS keeps them in its configuration. Pure.

-e vxlan -p vxlan/listen_ip=0.0.0.0,vxlan/listen_port=4790 -s files -p files/config=/opt/custom/customers_overlay.json -p mtu=1400
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from specs.model.profile import Profile
from warren.errors import MISSING, Invalid

PORT, MTU = 4789, 1400  # what SmartOS takes where a rule says nothing
MTU_FIRST, MTU_LAST = 576, 8900
PATH = "/opt/custom/networking/{}_overlay.json"
SEARCHES = ("files", "direct", "svp")
EXPECTED = "options of dladm create-overlay, such as -e vxlan -p vxlan/listen_ip=0.0.0.0,vxlan/listen_port=4790 -s files -p files/config=/x.json -p mtu=1400"
PROPERTIES = ("vxlan/listen_ip", "vxlan/listen_port", "files/config", "direct/dest_ip", "direct/dest_port", "mtu")
_NEEDS = {"files": "files/config", "direct": "direct/dest_ip", "svp": "svp/host"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayRule:
    """An overlay rule: the address and the UDP port where tunnel packets are taken, how destinations are found, and the MTU in bytes.
    `config` is the path of the table of `files`, `target` the address and port of `direct`."""

    listen: IPv4Address | IPv6Address
    port: int = PORT
    search: str = "files"
    config: str | None = None
    target: tuple[IPv4Address | IPv6Address, int] | None = None
    mtu: int = MTU

    def fields(self) -> dict[str, Any]:
        """The fields of a tunnel profile that the rule states."""
        return {"listen": str(self.listen), "port": self.port, "mtu": self.mtu}


def parse(text: str) -> OverlayRule:
    """Read a rule. Raises `Invalid`, which names the option or property that is wrong."""
    options = list(_options(text))
    properties = _properties(text, options)
    encapsulation = [value for option, value in options if option == "-e"]
    searches = [value for option, value in options if option == "-s"]
    if encapsulation != ["vxlan"]:
        raise Invalid("rule", text, "one option -e vxlan")
    if len(searches) != 1 or searches[0] not in SEARCHES:
        raise Invalid("rule", text, f"one option -s {', '.join(SEARCHES)}")
    if "vxlan/listen_ip" not in properties:
        raise Invalid("rule.vxlan/listen_ip", MISSING, "0.0.0.0 for all interfaces, or an address")
    if _NEEDS[searches[0]] not in properties:
        raise Invalid(f"rule.{_NEEDS[searches[0]]}", MISSING, f"-s {searches[0]} needs it")
    target = None
    if searches[0] == "direct":
        target = _address(properties, "direct/dest_ip"), _number(properties, "direct/dest_port", PORT, 1, 65_535)
    return OverlayRule(
        listen=_address(properties, "vxlan/listen_ip"),
        port=_number(properties, "vxlan/listen_port", PORT, 1, 65_535),
        search=searches[0],
        config=properties.get("files/config"),
        target=target,
        mtu=_number(properties, "mtu", MTU, MTU_FIRST, MTU_LAST),
    )


def _options(text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Invalid("rule", text, f"{EXPECTED} ({error})") from None
    if not words or len(words) % 2:
        raise Invalid("rule", text, EXPECTED)
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option not in ("-e", "-p", "-s"):
            raise Invalid("rule", option, "one of the options -e, -p, -s")
        yield option, value


def _properties(text: str, options: list[tuple[str, str]]) -> dict[str, str]:
    properties: dict[str, str] = {}
    for word in (word for option, value in options if option == "-p" for word in value.split(",")):
        name, equals, value = word.partition("=")
        known = name in PROPERTIES or name.startswith("svp/")
        if not equals or not value or not known:
            raise Invalid("rule", word, f"NAME=VALUE with one of the names {', '.join(PROPERTIES)}")
        if name in properties:
            raise Invalid(f"rule.{name}", value, "one value")
        properties[name] = value
    return properties


def _address(properties: dict[str, str], name: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(properties[name])
    except ValueError:
        raise Invalid(f"rule.{name}", properties[name], "an IP address") from None


def _number(properties: dict[str, str], name: str, default: int, first: int, last: int) -> int:
    text = properties.get(name, str(default))
    if not (text.isascii() and text.isdigit() and first <= int(text) <= last):
        raise Invalid(f"rule.{name}", text, f"a number from {first} to {last}")
    return int(text)


def rule_of(profile: Profile, mtu: int) -> str:
    """The rule of a profile whose endpoints have this MTU (bytes): the text that it was made from, if it still says what the profile is, or else the
    options in the order in which SmartOS's tools write them."""
    listen = str(profile.listen or "0.0.0.0")
    if profile.rule is not None:
        imported = parse(profile.rule)
        if imported.fields() == {"listen": listen, "port": profile.port, "mtu": profile.mtu}:
            return profile.rule
    config = (imported.config if profile.rule is not None else None) or PATH.format(profile.name)
    size = min(max(mtu, MTU_FIRST), MTU_LAST)
    return (
        f"-e vxlan -p vxlan/listen_ip={listen},vxlan/listen_port={profile.port} -s files -p files/config={config} -p mtu={size}"
    )
