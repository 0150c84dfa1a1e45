"""Reads the metadata services over HTTP. An answer that is slow, cut off or too long is an error, like any status but 200 and 404."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from underlay import aws, azure, gcp
from underlay.model import Metadata
from warren.errors import Invalid, Unavailable

log = logging.getLogger("warren.underlay.fetch")

ENDPOINT = "http://169.254.169.254"
ENDPOINT6 = "http://[fd00:ec2::254]"
TOKEN_TTL_S = 21_600
ANSWER_S = 5.0  # for a whole answer: a service that sends a byte a second is as good as away
ANSWER_LIMIT = 4 << 20  # bytes
TRIES = 3
PAUSE_S = 0.25  # before the second try; doubled each time
PAUSE_LIMIT_S = 5.0  # the longest pause that a service may ask for
DEPTH_LIMIT, LEAF_LIMIT = 12, 20_000
AGREE = 4  # readings of a network until two in a row must agree
_NO_NAME = "<>?#\\"
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_BUSY = (429, 500, 502, 503, 504)


class MetadataSource(Protocol):
    """A metadata service. `read` returns what it says; `wait` returns early when it may say something else, if the service can tell."""

    def read(self) -> Metadata:
        """Read everything. Raises `Unavailable` or `Invalid`."""

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait for a change, at most `timeout_s`. `wake(seconds)` waits for other reasons to go on, and returns whether one came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataAnswer:
    """A status of 200 or 404, and the text."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Return whether the service has what was requested."""
        return self.status == 200


class Http:
    """Requests to one metadata service: without proxies and redirects, each with a deadline, and tried again while the service is busy.
    A service with several addresses is requested at the next one when one does not answer."""

    def __init__(self, service: str, *urls: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.service, self._urls, self._sleep = service, urls, sleep
        self._client = httpx.Client(trust_env=False, follow_redirects=False, timeout=ANSWER_S)

    def get(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET", answer_s: float = ANSWER_S, tries: int = TRIES
    ) -> MetadataAnswer:
        """Return the answer to a request. Raises `MetadataRefused`."""
        for attempt in range(tries):
            last, pause_s = attempt == tries - 1, 0.0
            try:
                answer = self._once(method, path, headers, answer_s)
            except httpx.HTTPError as error:
                self._urls = (*self._urls[1:], self._urls[0])
                if last:
                    raise MetadataRefused(self.service, f"{method} {path}: {str(error) or type(error).__name__}", 0) from None
            else:
                if answer.status not in _BUSY or last:
                    return self._judged(answer, method, path)
                pause_s = _pause(answer.headers)
            self._sleep(min(max(pause_s, PAUSE_S * 2**attempt), PAUSE_LIMIT_S))
        raise AssertionError("the last try returns or raises")

    def _judged(self, answer: MetadataAnswer, method: str, path: str) -> MetadataAnswer:
        if answer.status in (200, 404):
            return answer
        meaning = " (the service is disabled, or refuses a request that was forwarded)" if answer.status == 403 else ""
        raise MetadataRefused(self.service, f"{method} {path}: status {answer.status}{meaning}", answer.status)

    def _once(self, method: str, path: str, headers: Mapping[str, str], answer_s: float) -> MetadataAnswer:
        """Return the answer. Raises `httpx.HTTPError`."""
        deadline = time.monotonic() + answer_s
        timeout = httpx.Timeout(ANSWER_S, read=answer_s)
        with self._client.stream(method, self._urls[0] + path, headers=dict(headers), timeout=timeout) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > ANSWER_LIMIT or time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"no whole answer within {answer_s:g} s and {ANSWER_LIMIT} bytes")
            return MetadataAnswer(status=response.status_code, text=_text(body), headers=response.headers)

    def json(self, answer: MetadataAnswer, path: str) -> Any:
        """Return the document of an answer. Raises `Invalid`."""
        try:
            return json.loads(answer.text)
        except (ValueError, RecursionError):
            raise Invalid(path, answer.text, "JSON") from None

    def document(self, path: str, headers: Mapping[str, str]) -> Any:
        """Return a JSON document that must exist. Raises `MetadataRefused` or `Invalid`."""
        answer = self.get(path, headers)
        if not answer.exists:
            raise MetadataRefused(self.service, f"GET {path}: status 404", 404)
        return self.json(answer, path)


class MetadataRefused(Unavailable):
    """A metadata service does not give what was requested. `status` is that of HTTP, 0 without an answer."""

    def __init__(self, service: str, reason: str, status: int) -> None:
        super().__init__(service, reason)
        self.status = status


def _text(body: bytes | bytearray) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise httpx.DecodingError("the answer is no text")
    return text


def _pause(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


class Ec2:
    """EC2's service: version 2, whose requests bear a token; version 1 only if `allow_v1`."""

    def __init__(self, http: Http, *, allow_v1: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._http, self._allow_v1, self._clock = http, allow_v1, clock
        self._token = ""
        self._renew_at = 0.0

    def read(self) -> Metadata:
        """Read the instance's tree, then that of its network until two readings agree: it is many requests, and may change between them."""
        system = self._tree("/latest/meta-data/", skip=("network/", *aws.SECRET))
        macs = self._tree("/latest/meta-data/network/interfaces/macs/")
        for _ in range(AGREE):
            before, macs = macs, self._tree("/latest/meta-data/network/interfaces/macs/")
            if before == macs:
                break
        else:
            raise Unavailable(self._http.service, "the network's metadata changes with every reading")
        system["network"] = {"interfaces": {"macs": macs}}
        return aws.metadata(system, macs, {name: self._identity(name) for name in aws.IDENTITY})

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait: the service cannot tell of changes."""
        wake(timeout_s)

    def _identity(self, name: str) -> Any:
        path = f"/latest/dynamic/instance-identity/{name}"
        answer = self._get(path)
        if not answer.exists:
            return {} if name == "document" else ""
        return self._http.json(answer, path) if name == "document" else answer.text

    def _tree(self, path: str, skip: tuple[str, ...] = (), depth: int = 0) -> dict[str, Any]:
        """Return what is below a path. Lines of one leaf are joined with commas, as the tools of this field print them."""
        listing = self._get(path)
        if not listing.exists:
            if depth == 0:
                raise MetadataRefused(self._http.service, f"GET {path}: status 404", 404)
            return {}
        leaves: dict[str, Any] = {}
        for line in _names(listing.text, path, depth):
            if line in skip:
                continue
            if line.endswith("/"):
                leaves[line[:-1]] = self._tree(path + line, depth=depth + 1)
            elif path.endswith("/public-keys/"):
                key = self._get(f"{path}{line.partition('=')[0]}/openssh-key")
                leaves[line] = key.text.strip()
            elif (leaf := self._get(path + line)).exists:
                leaves[line] = ",".join(leaf.text.split("\n")).strip(",")
        return leaves

    def _get(self, path: str) -> MetadataAnswer:
        """Return an answer; a token that the service no longer accepts is renewed once."""
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
        """Get a token, and note when to get the next one: after four fifths of its life."""
        answer = self._token_answer()
        self._token = answer.text.strip() if answer is not None else ""
        ttl = answer.headers.get(_TTL, "") if answer is not None else ""
        self._renew_at = self._clock() + 0.8 * (int(ttl) if ttl.isascii() and ttl.isdigit() else TOKEN_TTL_S)

    def _token_answer(self) -> MetadataAnswer | None:
        """Return the answer with a token; None where version 1 must do."""
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


def _names(listing: str, path: str, depth: int) -> Iterator[str]:
    """Yield the lines of a directory. Raises `Invalid` for what is none, such as a page of a proxy."""
    lines = listing.split("\n")
    if depth > DEPTH_LIMIT or len(lines) > LEAF_LIMIT:
        raise Invalid(path, listing, "a directory of metadata")
    for line in lines:
        if not line.strip():
            continue
        if not line.isprintable() or any(sign in line for sign in _NO_NAME) or line.startswith(("/", ".")):
            raise Invalid(path, line, "names of metadata, one a line")
        yield line


class Azure:
    """Azure's service. It tells nobody of changes."""

    HEADERS = {"Metadata": "true"}
    PATH = "/metadata/instance?api-version=2021-02-01"
    BALANCER = "/metadata/loadbalancer?api-version=2020-10-01"

    def __init__(self, http: Http) -> None:
        self._http = http
        self._balancer_document: Any = None

    def read(self) -> Metadata:
        """Read the instance's document, and that of its load balancer if there is one."""
        document = self._http.document(self.PATH, self.HEADERS)
        return azure.metadata(document, self._balancer())

    def _balancer(self) -> Any:
        """Return the load balancer's document; the last one while the service does not answer, so that no public address comes and goes."""
        try:
            self._balancer_document = self._http.document(self.BALANCER, self.HEADERS)
        except Invalid as error:
            log.debug("fetch.balancer reason=%s", error)
        except MetadataRefused as refusal:
            log.debug("fetch.balancer reason=%s", refusal)
            if refusal.status in (400, 404):
                self._balancer_document = None
        return self._balancer_document

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait: the service cannot tell of changes."""
        wake(timeout_s)


class Gcp:
    """Google's service. It holds a request until something changes."""

    HEADERS = {"Metadata-Flavor": "Google"}
    PATH = "/computeMetadata/v1/?recursive=true&alt=json"
    CHANGE = "/computeMetadata/v1/instance/network-interfaces/?recursive=true&alt=json&wait_for_change=true"

    def __init__(self, http: Http) -> None:
        self._http = http
        self._etag = ""

    def read(self) -> Metadata:
        """Read the document."""
        answer = self._http.get(self.PATH, self.HEADERS)
        self._check(answer)
        return gcp.metadata(self._http.json(answer, self.PATH))

    def _check(self, answer: MetadataAnswer) -> None:
        if not answer.exists or answer.headers.get("Metadata-Flavor") != "Google":
            raise MetadataRefused(
                self._http.service, f"status {answer.status}, and no header Metadata-Flavor: Google", answer.status
            )

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait until the interfaces change. A service that cannot do that is waited for otherwise."""
        whole_s = max(1, int(timeout_s))
        path = f"{self.CHANGE}&timeout_sec={whole_s}" + (f"&last_etag={self._etag}" if self._etag else "&last_etag=0")
        started = time.monotonic()
        try:
            answer = self._http.get(path, self.HEADERS, answer_s=whole_s + ANSWER_S, tries=1)
            self._check(answer)
            self._etag = answer.headers.get("ETag", "")
        except Unavailable as error:
            log.info("fetch.long_poll reason=%s", error)
            self._etag = ""
        if not self._etag:
            wake(max(0.0, timeout_s - (time.monotonic() - started)))


def source(cloud: str, url: str | None, *, allow_v1: bool = False) -> MetadataSource:
    """Return the metadata service of a cloud."""
    service = f"the metadata service of {cloud}"
    if cloud == "aws":
        return Ec2(Http(service, *((url,) if url else (ENDPOINT, ENDPOINT6))), allow_v1=allow_v1)
    http = Http(service, url or ENDPOINT)
    return Azure(http) if cloud == "azure" else Gcp(http)
