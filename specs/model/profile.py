"""Tunnel profiles: by which UDP port the packets of networks travel between which hosts, and whether encrypted. Pure.

profiles: [{name: customers, port: 14790, hosts: [h1, h2], encryption: always}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from pipeline.tunnels import VXLAN_UDP_PORT
from specs.model.base import Address, Item, Mtu, Name, Record, Whole
from specs.model.host import Host
from specs.model.names import is_name

DEFAULT = "default"  # the profile of networks that name none; it exists without a record
ALL, OF_SITE = "all", "site:"
PROFILES_LIMIT = 255  # besides `default`: registers have 8 bits for the number of a profile (pipeline/tunnels.py)
HOSTS_LIMIT = 1000
RULE_LIMIT = 2048  # characters
EXPECTED = "all, site:NAME, the name of a host, or a list of these"


def _hosts(value: Any) -> tuple[str, ...]:
    """One word, several with commas between, or a list."""
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not 0 < len(words) <= HOSTS_LIMIT:
        raise ValueError(EXPECTED)
    if not all(isinstance(word, str) and is_name(word.removeprefix(OF_SITE)) for word in words):
        raise ValueError(EXPECTED)
    return tuple(dict.fromkeys(words))


_HOSTS_SCHEMA = WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}]})
HostWords = Annotated[tuple[str, ...], BeforeValidator(_hosts), _HOSTS_SCHEMA]
UdpPort = Annotated[Whole, Field(ge=1, le=65_535)]


class ProfileFields(BaseModel):
    """The fields that a document, a request and the record of a profile share."""

    name: Name
    port: UdpPort | None = None
    listen: Address | None = None
    hosts: HostWords | None = None
    mtu: Literal["auto"] | Mtu = "auto"
    encryption: Literal["auto", "always", "never"] = "auto"
    cipher: Literal["wireguard", "ipsec"] = "wireguard"
    rule: Annotated[str, Field(max_length=RULE_LIMIT)] | None = None


class Profile(ProfileFields, Record):
    """How tunnel packets of networks travel: to UDP port `port`, on hosts with the address `listen` to that address alone, between the `hosts`:
    names of hosts (which may come later), `site:NAME`, `all`. `mtu` is that of endpoints in bytes; `auto` is what the worst path carries.
    `encryption`: `auto` between sites, `always` inside a site, too, `never`: plain, and so inside a site only. `rule` is the overlay rule of SmartOS that it was made from. `number` tells the profile's
    networks from those of others with the same VNI; 0 is `default`."""

    port: UdpPort
    hosts: HostWords
    number: Annotated[Whole, Field(ge=0, le=PROFILES_LIMIT)] = 0
    created_at: str | None = None

    def has(self, host: Host) -> bool:
        """Whether a host takes part."""
        return any(word in (ALL, host.name) or (host.site is not None and word == OF_SITE + host.site) for word in self.hosts)

    @property
    def sites(self) -> list[str]:
        """The sites that it names."""
        return [word.removeprefix(OF_SITE) for word in self.hosts if word.startswith(OF_SITE)]


class ProfileItem(ProfileFields, Item):
    """A profile, in a document; without a `port` the next free one is taken."""


def _named(value: str) -> str | None:
    return None if value == DEFAULT else value


ProfileName = Annotated[Annotated[Name, AfterValidator(_named)] | None, Field()]  # as a network names it; None is `default`
BUILT_IN = Profile(name=DEFAULT, port=VXLAN_UDP_PORT, hosts=(ALL,))


class InProfile(Protocol):
    """What names a profile, as a network does."""

    @property
    def profile(self) -> str | None:
        """The profile's name; None is `default`."""
        ...

    @property
    def profile_number(self) -> int:
        """Its number."""
        ...


def profile_of(name: str | None, profiles: Mapping[str, Profile]) -> Profile | None:
    """The profile that a network names; None if it does not exist."""
    return profiles.get(name or DEFAULT, BUILT_IN if name in (None, DEFAULT) else None)


def profile_in(network: InProfile, profiles: Mapping[str, Profile]) -> Profile | None:
    """The profile by which a network travels; None if it does not exist, or not as it did when the network was made."""
    profile = profile_of(network.profile, profiles)
    return profile if profile is not None and profile.number == network.profile_number else None


def all_profiles(profiles: Mapping[str, Profile]) -> list[Profile]:
    """All profiles with `default`, by their numbers."""
    return sorted({DEFAULT: BUILT_IN, **profiles}.values(), key=lambda profile: profile.number)
