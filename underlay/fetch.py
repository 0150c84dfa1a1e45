"""The metadata services: EC2's (`underlay/ec2.py`), Azure's and Google's."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

from underlay import azure, gcp
from underlay.ec2 import Ec2
from underlay.http import ANSWER_S, Http, MetadataAnswer, MetadataRefused
from underlay.model import Metadata
from warren.errors import Invalid, Unavailable

log = logging.getLogger("warren.underlay.fetch")

ENDPOINT = "http://169.254.169.254"
ENDPOINT6 = "http://[fd00:ec2::254]"
_ETAG = re.compile(r"[0-9A-Za-z_-]{1,100}")


class MetadataSource(Protocol):
    """A metadata service. `read` returns the metadata; `wait` returns early when they may have changed, if the service reports changes."""

    def read(self) -> Metadata:
        """Read everything. Raises `Unavailable` or `Invalid`."""

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait for a change, at most `timeout_s`. `wake(seconds)` waits for other reasons to read again, and returns whether there is one."""


class Azure:
    """Azure's service. It does not report changes."""

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
        """Return the load balancer's document; while the service does not answer, the last one, so that public addresses do not flap."""
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
        if not answer.exists or answer.headers.get("metadata-flavor") != "Google":
            raise MetadataRefused(
                self._http.service, f"status {answer.status}, and no header Metadata-Flavor: Google", answer.status
            )

    def wait(self, timeout_s: float, wake: Callable[[float], bool]) -> None:
        """Wait until the interfaces change. If the service cannot report that, wait as for a service without this feature."""
        whole_s = max(1, int(timeout_s))
        path = f"{self.CHANGE}&timeout_sec={whole_s}" + (f"&last_etag={self._etag}" if self._etag else "&last_etag=0")
        started = time.monotonic()
        try:
            answer = self._http.get(path, self.HEADERS, answer_s=whole_s + ANSWER_S, tries=1)
            self._check(answer)
            etag = answer.headers.get("etag", "")
            self._etag = etag if _ETAG.fullmatch(etag) else ""
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
