"""Allowed addresses: what an endpoint may send with, and receive, besides its own address and MAC. Several endpoints may share one. Pure.

Virtual addresses that move between endpoints (VRRP, with the MAC of the virtual router), addresses of a service, ranges of containers inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError, field_validator, model_validator

from pipeline.protocols import IpNetwork
from pipeline.tables import ANSWER_MAC, PROBE_MAC
from specs.model.base import Mac, require_text
from specs.model.dhcp import SERVER4
from specs.model.network import Network
from specs.model.ranges import unusable
from specs.model.validation import invalid
from warren.errors import Invalid

ALLOWED_LIMIT = 32  # of one endpoint
WIDEST = {4: 16, 6: 48}  # the shortest prefix length of a range
LINKS = (ip_network("fe80::/10"), ip_network("169.254.0.0/16"))  # single addresses of the link may be allowed
EXPECTED = "an address such as 10.0.0.100, or a range such as 10.0.9.0/24"


def _prefix(value: Any) -> Any:
    require_text(value)
    if not isinstance(value, str):
        return value
    try:
        prefix = ip_network(value if "%" not in value else "")  # no interface of the link
    except ValueError:
        raise ValueError(EXPECTED) from None
    if (reason := _unusable(prefix)) is not None:
        raise ValueError(f"{EXPECTED}, which containers can use: {reason}")
    return prefix


def _unusable(prefix: IpNetwork) -> str | None:
    """Why nobody may have an address; None if somebody may."""
    if prefix.prefixlen < WIDEST[prefix.version]:
        return f"wider than /{WIDEST[prefix.version]}"
    link = next((link for link in LINKS if link.version == prefix.version and link.overlaps(prefix)), None)
    if link is None:
        return unusable(prefix)
    if prefix.prefixlen < prefix.max_prefixlen:
        return f"of {link} only single addresses"
    if prefix.network_address == SERVER4:
        return "it is the DHCP server's"
    if link.version == 6 and prefix.network_address.packed[11:13] == b"\xff\xfe":
        return "it derives from a MAC, and is allowed with that MAC"
    return None


def text(prefix: IpNetwork) -> str:
    """A prefix as text; an address has no prefix length."""
    return str(prefix.network_address) if prefix.prefixlen == prefix.max_prefixlen else str(prefix)


Prefix = Annotated[IpNetwork, BeforeValidator(_prefix), PlainSerializer(text)]


class AllowedEntry(BaseModel):
    """An address or a range, with the MAC that it has wherever it is; without `mac` it has the MAC of the endpoint that has it. The text
    ADDRESS or ADDRESS,MAC says the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Prefix
    mac: Mac | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        address, comma, mac = (part.strip() for part in data.partition(","))
        return {"address": address, **({"mac": mac} if comma else {})}

    @field_validator("mac")
    @classmethod
    def _of_an_endpoint(cls, value: str | None) -> str | None:
        if value in (PROBE_MAC, ANSWER_MAC):
            raise ValueError("a MAC that is not the gateway's")
        return value

    def data(self) -> dict[str, str]:
        """As JSON data."""
        return {"address": text(self.address), **({"mac": self.mac} if self.mac else {})}


def check_allowed(entries: tuple[AllowedEntry, ...]) -> tuple[AllowedEntry, ...]:
    """The entries of one endpoint. Raises `ValueError` if they are too many or overlap."""
    if len(entries) > ALLOWED_LIMIT:
        raise ValueError(f"at most {ALLOWED_LIMIT}")
    for number, entry in enumerate(entries):
        for other in entries[:number]:
            if overlap(entry.address, other.address):
                raise ValueError(f"each address once: {text(other.address)} and {text(entry.address)} overlap")
    return entries


def parse_allowed(words: Sequence[str], path: str) -> tuple[AllowedEntry, ...]:
    """Entries from words, each ADDRESS or ADDRESS,MAC. Raises `Invalid` at the path."""
    entries = []
    for word in words:
        try:
            entries.append(AllowedEntry.model_validate(word))
        except ValidationError as error:
            raise Invalid(path, word, invalid(error).expected) from None
    try:
        return check_allowed(tuple(entries))
    except ValueError as error:
        raise Invalid(path, " ".join(words), str(error)) from None


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    """Whether two prefixes have addresses in common."""
    return one.version == other.version and one.overlaps(other)


def misplaced(entries: Iterable[AllowedEntry], network: Network) -> tuple[int, str] | None:
    """The first entry that the endpoints of a network cannot have, by position, and why; None if there is none."""
    for position, entry in enumerate(entries):
        for gateway in (network.gateway, network.ipv6_gateway):
            if gateway is not None and gateway.ip in entry.address:
                return position, f"{gateway.ip} is the gateway of network {network.name}"
        for network_range in (network.ip_range, network.ipv6_range):
            if network_range is not None and entry.address.version == network_range.version and _is_edge(entry, network_range):
                return position, f"{text(entry.address)} is no host address of {network_range}"
    return None


def _is_edge(entry: AllowedEntry, network_range: IpNetwork) -> bool:
    """Whether an entry is the address of the range itself, or the broadcast address in it."""
    edges = [network_range.network_address, *((network_range.broadcast_address,) if network_range.version == 4 else ())]
    return entry.address.prefixlen == entry.address.max_prefixlen and entry.address.network_address in edges
