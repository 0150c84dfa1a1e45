"""Where a host of a cloud is: reads what warren-underlay says of the cloud's metadata, and derives the fields of the host's record from it.

Settings that are typed (WARREN_VTEP, WARREN_SITE, WARREN_OUTSIDE) take precedence. A bad reading changes nothing, also not after a restart: the last
good one is in a file.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import Any

import httpx

from agent.cache import Cache
from agent.config import Config, api_url
from agent.feature import Feature
from specs.model.base import Address, Name, NestedValue
from specs.model.names import NAME_LIMIT
from specs.model.site import OutsideAddress
from warren.errors import Invalid, Unavailable
from warren.worker import Worker

log = logging.getLogger("warren.cloud")

URL = "http://127.0.0.1:5209/api/cloud/status"
ANSWER_S = 5.0
INTERVAL_S = 2.0
START_S = 30.0  # how long an agent without WARREN_VTEP waits for the first reading
PAUSE_S = 0.2
FILE = "cloud.json"
UnderlayStatus = Mapping[str, Any]


class CloudPlace(NestedValue):
    """Where a host is in its cloud: its address inside its site, its site, and how hosts of other sites reach it."""

    vtep: Address
    site: Name
    outside: OutsideAddress | None = None


def site_name(text: str) -> str:
    """Return the name of the site `CLOUD/REGION/VPC`. A text that no name can hold is shortened, and ends with a hash."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", text.replace("/", ".")).lstrip("._-")
    if name == text.replace("/", ".") and len(name) <= NAME_LIMIT:
        return name
    digest = sha256(text.encode()).hexdigest()[:8]
    return f"{name[: NAME_LIMIT - 9]}-{digest}"


def place_of(status: UnderlayStatus) -> CloudPlace:
    """Return where the host is: the first address of the primary NIC is its VTEP; the first public address of another NIC makes its outside.
    Raises `Invalid`."""
    try:
        primary, *others = status["nics"]
        site = site_name(str(status["location"]["site"]))
        vtep = ip_interface(primary["addresses"][0]).ip
        outsides = [outside for nic in others if (outside := _outside(nic)) is not None]
        return CloudPlace(vtep=vtep, site=site, outside=outsides[0] if outsides else None)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Invalid(URL, status, "the site and the NICs of this host, as warren-underlay tells them") from None


def _outside(nic: UnderlayStatus) -> OutsideAddress | None:
    """Return the outside address by a NIC; None without a public address, or without a link."""
    if not nic["public"] or nic["link"] is None:
        return None
    by_address = {str(ip_interface(text).ip): text for text in nic["addresses"]}
    address = next((address for address in by_address if address in nic["public"]), None)
    if address is None:
        return None
    return OutsideAddress.model_validate({"address": address, "interface": nic["link"], "public": nic["public"][address]})


def read_status(url: str = URL) -> UnderlayStatus:
    """Return what warren-underlay says. Raises `Unavailable`."""
    try:
        # every two seconds: no client is left open, and none loads certificates for plain HTTP on loopback
        answer = httpx.get(url, trust_env=False, verify=False, timeout=ANSWER_S)
        document = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable("warren-underlay", f"{url}: {str(error) or type(error).__name__}") from None
    if not isinstance(document, Mapping):
        raise Unavailable("warren-underlay", f"{url}: status {answer.status_code}")
    return document


class CloudUnderlay(Feature):
    """Follows the cloud's metadata where the settings (WARREN_UNDERLAY) or the host's record say `underlay: cloud`."""

    def __init__(
        self, config: Config, cache: Cache, on_change: Callable[[], None], read: Callable[[], UnderlayStatus] = read_status
    ) -> None:
        self._config, self._cache, self._on_change, self._read = config, cache, on_change, read
        self._file = config.run / FILE
        self._place = _saved(self._file)
        self._lines: list[str] = []
        self._differences: list[str] = []
        self._worker = Worker("cloud", self._step, interval_s=INTERVAL_S, on_change=on_change)

    def workers(self) -> Sequence[Worker]:
        """Return the worker that reads the metadata."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return what warren-underlay complains of, and what this host lacks in its cloud."""
        return self._lines

    def differences(self) -> list[str]:
        """Return how the kernel differs from the metadata, in warren-underlay's words."""
        return self._differences

    def vtep(self) -> IPv4Address | IPv6Address:
        """Return the VTEP. At the start of an agent it waits for the first reading. Raises `Unavailable`, and `Invalid`."""
        if self._config.vtep is not None:
            return self._config.vtep
        deadline = time.monotonic() + START_S
        while True:
            reason = self._follow()
            if self._place is not None:
                return self._place.vtep
            if time.monotonic() > deadline:
                raise Unavailable("the address of this host in its cloud", reason or "its metadata has not been applied yet")
            time.sleep(PAUSE_S)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the host's record that follow from the metadata; none before it is read, nor for hosts that do not follow it."""
        place = self._place
        if not self._follows() or place is None:
            return {}
        fields: dict[str, Any] = {}
        if self._config.vtep is None:
            fields |= {"vtep": place.vtep, "api": api_url(self._config, place.vtep)}
        if self._config.site is None:
            fields["site"] = place.site
        if self._config.outside is None:
            fields["outside"] = place.outside
        return fields

    def _follows(self) -> bool:
        record = self._cache.view.snapshot.hosts.get(self._cache.host)
        return self._config.underlay == "cloud" or (record is not None and record.underlay == "cloud")

    def _step(self, items: frozenset[str]) -> None:
        """Read the metadata and tell the registration. A worker's step."""
        before, lines = self._place, self._lines
        if not self._follows():
            self._lines, self._differences = [], []
        elif (reason := self._follow()) is not None:
            self._lines = [f"cloud: {reason}" + ("; the last state is kept" if self._place is not None else "")]
        if self._place != before:
            log.info("cloud.changed place=%s", self._place.model_dump_json() if self._place is not None else "")
        if (self._place, self._lines) != (before, lines):
            self._on_change()

    def _follow(self) -> str | None:
        """Take over what warren-underlay says, once it has carried it out; return why it is not taken over."""
        try:
            status = self._read()
            lines = [f"cloud: {line}" for line in status.get("problems") or ()]
            self._differences = [f"cloud: {line}" for line in status.get("differences") or ()]
            if status.get("applied"):
                self._take(place_of(status))
        except (Unavailable, Invalid) as error:
            return str(error)
        place = self._place
        if place is not None and place.outside is None and self._config.outside is None:
            lines.append("cloud: no NIC but the primary one has a public address, so hosts of other sites do not reach this host")
        self._lines = lines
        return None

    def _take(self, place: CloudPlace) -> None:
        if place != self._place:
            _save(self._file, place)
            self._place = place


def _saved(file: Path) -> CloudPlace | None:
    with suppress(OSError, ValueError):
        return CloudPlace.model_validate_json(file.read_text())
    return None


def _save(file: Path, place: CloudPlace) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(place.model_dump_json())
    temporary.replace(file)
