"""EC2's metadata service: walks its tree of texts, with a request for each leaf. Of a NIC that was read before, only values that may change are
read again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from underlay import aws
from underlay.http import Http, MetadataAnswer, MetadataRefused, whole_number
from underlay.model import Metadata
from warren.errors import Invalid, Unavailable

TOKEN_TTL_S = 21_600
DEPTH_LIMIT, LEAF_LIMIT = 12, 20_000
PASSES = 5  # over the NICs of a reading, until one finds nothing new
WHOLE = 4  # NICs that a reading reads whole again, in turn
META, MACS = "/latest/meta-data/", "/latest/meta-data/network/interfaces/macs/"
CHANGING = (
    "local-ipv4s",
    "ipv6s",
    "ipv4-prefix",
    "ipv6-prefix",
    "ipv4-associations/",
)  # the rest stays while the NIC does, but for names
_NAME = re.compile(r"(?!\.)[^/<>?#\\]+/?")
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class NicTree:
    """A NIC's directory: its `listing`, the leaves that may change, all leaves, and which reading has read all."""

    listing: str
    changing: Mapping[str, Any]
    leaves: Mapping[str, Any]
    reading: int


class Ec2:
    """EC2's service: version 2, whose requests carry a token; version 1 only if `allow_v1`."""

    def __init__(self, http: Http, *, allow_v1: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._http, self._allow_v1, self._clock = http, allow_v1, clock
        self._token = ""
        self._renew_at = 0.0
        self._nics: dict[str, NicTree] = {}  # also of a reading that failed: the next one goes on there
        self._reading = 0

    def read(self) -> Metadata:
        """Read the instance's tree, then its NICs until two passes agree, because the tree may change between the many requests. The last
        reading's pass counts as the first."""
        self._reading += 1
        system = self._tree(META, self._listing(META), skip=("network/", *aws.SECRET))
        due = sorted(self._nics, key=lambda mac: self._nics[mac].reading)[:WHOLE]
        for _ in range(PASSES):
            if self._agrees(due):
                break
            due = []
        else:
            raise Unavailable(self._http.service, "the network's metadata changes with every reading")
        macs = {mac: nic.leaves for mac, nic in sorted(self._nics.items())}
        system["network"] = {"interfaces": {"macs": macs}}
        return aws.metadata(system, macs, {name: self._identity(name) for name in aws.IDENTITY})

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait: the service cannot tell of changes."""
        wake(timeout_s)

    def _agrees(self, due: list[str]) -> bool:
        """Read all NICs, those in `due` whole; return whether they equal the pass before."""
        names = {line.removesuffix("/"): f"{MACS}{line}" for line in _names(self._listing(MACS).text, MACS) if line.endswith("/")}
        agrees = names.keys() == self._nics.keys()
        for mac in self._nics.keys() - names.keys():
            del self._nics[mac]
        for mac, path in names.items():
            agrees = self._same(mac, path, whole=mac in due) and agrees
        return agrees

    def _same(self, mac: str, path: str, *, whole: bool) -> bool:
        """Read a NIC; return whether all values are as before. A NIC that is new or differs is read whole."""
        before, listing = self._nics.get(mac), self._get(path)
        if not listing.exists:  # it has gone since the pass began
            self._nics.pop(mac, None)
            return False
        if before is not None and not whole and listing.text == before.listing:
            if self._tree(path, listing, only=CHANGING) == before.changing:
                return True
            before = None
        leaves = self._tree(path, listing)
        changing = {name: leaves[name] for line in CHANGING if (name := line.removesuffix("/")) in leaves}
        self._nics[mac] = NicTree(listing=listing.text, changing=changing, leaves=leaves, reading=self._reading)
        return before is not None and (before.listing, before.leaves) == (listing.text, leaves)

    def _identity(self, name: str) -> Any:
        path = f"/latest/dynamic/instance-identity/{name}"
        answer = self._get(path)
        if not answer.exists:
            return {} if name == "document" else ""
        return self._http.json(answer, path) if name == "document" else answer.text

    def _listing(self, path: str) -> MetadataAnswer:
        """Return the text of a directory that every instance has."""
        listing = self._get(path)
        if not listing.exists:
            raise MetadataRefused(self._http.service, f"GET {path}: status 404", 404)
        return listing

    def _tree(
        self,
        path: str,
        listing: MetadataAnswer,
        *,
        skip: tuple[str, ...] = (),
        only: tuple[str, ...] | None = None,
        depth: int = 0,
    ) -> dict[str, Any]:
        """Return the tree below a path. Lines of one leaf are joined with commas, as other tools for this metadata print them."""
        leaves: dict[str, Any] = {}
        for line in _names(listing.text, path, depth) if listing.exists else ():
            if line in skip or (only is not None and line not in only):
                continue
            if line.endswith("/"):
                leaves[line[:-1]] = self._tree(path + line, self._get(path + line), depth=depth + 1)
            elif path.endswith("/public-keys/"):
                key = self._get(f"{path}{line.partition('=')[0]}/openssh-key")
                leaves[line] = key.text.strip()
            elif (leaf := self._get(path + line)).exists:
                leaves[line] = ",".join(leaf.text.split("\n")).strip(",")
        return leaves

    def _get(self, path: str) -> MetadataAnswer:
        """Return an answer. A token that the service no longer accepts is renewed once."""
        if self._renew_at <= self._clock():
            self._renew()
        try:
            return self._http.get(path, self._headers())
        except MetadataRefused as refusal:
            if refusal.status != 401:
                raise
        self._renew()
        return self._http.get(path, self._headers())

    def _headers(self) -> dict[str, str]:
        return {"X-aws-ec2-metadata-token": self._token} if self._token else {}

    def _renew(self) -> None:
        """Get a token, and note when to get the next one: after four fifths of the token's lifetime."""
        answer = self._token_answer()
        self._token = answer.text.strip() if answer is not None else ""
        ttl = answer.headers.get(_TTL.lower(), "") if answer is not None else ""
        self._renew_at = self._clock() + 0.8 * whole_number(ttl, TOKEN_TTL_S)

    def _token_answer(self) -> MetadataAnswer | None:
        """Return the answer with a token; None if only version 1 can be used."""
        try:
            answer = self._http.get("/latest/api/token", {_TTL: str(TOKEN_TTL_S)}, method="PUT")
        except MetadataRefused as refusal:
            if not self._allow_v1 or refusal.status not in (0, 403, 405):
                raise
            return None
        token = answer.text.strip()
        if answer.exists and token and token.isascii() and token.isprintable():
            return answer
        if self._allow_v1:
            return None
        raise Unavailable(
            self._http.service, "it gives no token (IMDSv2), and IMDSv1 is not allowed ([AWS] AllowV1 in the configuration)"
        )


def _names(listing: str, path: str, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a directory. Raises `Invalid` for another text, such as a page of a proxy."""
    lines = [line for line in listing.split("\n") if line.strip()]
    if depth > DEPTH_LIMIT or len(lines) > LEAF_LIMIT:
        raise Invalid(path, listing, "a directory of metadata")
    for line in dict.fromkeys(lines):
        if not line.isprintable() or not _NAME.fullmatch(line):
            raise Invalid(path, line, "names of metadata, one a line")
        yield line
