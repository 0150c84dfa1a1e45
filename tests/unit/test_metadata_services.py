"""Metadata services over HTTP: how EC2's tree is walked, and services that answer what no cloud answers."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_underlay import NICS, Running, described
from tools.lab import metadata as service
from underlay import aws, fetch, http
from underlay.ec2 import CHANGING, PASSES, WHOLE, Ec2
from warren.errors import Invalid, Unavailable

MACS = "/latest/meta-data/network/interfaces/macs/"


class Walked(Running):
    """EC2's service. `before` is called with each path before it is answered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.connections = 0
        self.before: Callable[[str], None] = lambda path: None
        self.texts: dict[str, str] = {}  # in place of the service's
        self.busy: Callable[[], bool] = lambda: False
        accept, answer = self.server.get_request, service.Handler._ec2

        def counted() -> Any:
            self.connections += 1
            return accept()

        def hooked(handler: Any, instance: Any, faults: Any) -> tuple[int, str, dict[str, str]]:
            self.before(handler.path)
            if handler.path in self.texts:
                return 200, self.texts[handler.path], {}
            return (429, "slower", {"Retry-After": "1"}) if self.busy() else answer(handler, handler.service.instance(), faults)

        self.server.get_request = counted  # type: ignore[method-assign]
        self.server.RequestHandlerClass._ec2 = hooked  # type: ignore[attr-defined]

    def set(self, nics: list[dict[str, Any]], **faults: Any) -> None:
        self.file.write_text(json.dumps(described("aws", nics, **faults)))

    def change_at(self, at: int, after: list[dict[str, Any]]) -> Callable[[], bool]:
        """Let the NICs change before a request of them, counted from 1; returns whether that has happened."""
        count = 0

        def arrives(path: str) -> None:
            nonlocal count
            count += path.startswith(MACS)
            if count == at:
                self.set(after)

        self.before = arrives
        return lambda: count >= at

    def ec2(self) -> Ec2:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return Ec2(http.Http("EC2", url, sleep=lambda _: None))

    def leaves(self, mac: str) -> dict[str, str]:
        """The texts of a NIC."""
        tree = service.ec2_tree(json.loads(self.file.read_text()))["meta-data"]["network"]["interfaces"]["macs"][mac]
        return {name: leaf for name, leaf in tree.items() if isinstance(leaf, str)}

    def requested(self, text: str = "GET") -> list[str]:
        """The paths requested since the last call."""
        lines = [line.split()[1] for line in self.log.read_text().splitlines() if text in line]
        self.log.write_text("")
        return lines


@pytest.fixture
def walked(tmp_path: Path) -> Iterator[Walked]:
    started = Walked(tmp_path)
    yield started
    started.server.shutdown()
    started.server.server_close()


def nics(count: int) -> list[dict[str, Any]]:
    return [
        {
            "mac": f"02:00:00:00:01:{number:02x}",
            "addresses": [f"10.4.{number}.5", f"fd00::{number + 1}"],
            "subnets": [f"10.4.{number}.0/24"],
            "public": {f"10.4.{number}.5": f"198.51.100.{number + 1}"},
        }
        for number in range(count)
    ]


def expected(instance: list[dict[str, Any]]) -> Any:
    """The tree of the NICs as the service has it."""
    tree = service.ec2_tree(described("aws", instance))["meta-data"]["network"]["interfaces"]["macs"]
    return json.loads(json.dumps(tree).replace("\\n", ","))


def test_a_refresh_requests_what_may_change_over_one_connection(walked: Walked) -> None:
    walked.set(nics(20))
    source = walked.ec2()
    assert source.read().network == expected(nics(20))
    first = walked.requested()
    assert len(first) == len(set(first)) + 1 + 20 * 5, "each leaf once; listings and what may change twice"
    assert source.read().network == expected(nics(20))
    paths = [path.removeprefix(MACS).split("/", 1) for path in walked.requested() if path.startswith(f"{MACS}02")]
    whole = {mac for mac, leaf in paths if leaf == "subnet-id"}
    assert len(whole) == WHOLE, "some NICs are read whole, in turn"
    assert {leaf for mac, leaf in paths if mac not in whole} <= {"", *CHANGING, "ipv4-associations/198.51.100.20"} | {
        f"ipv4-associations/198.51.100.{number}" for number in range(21)
    }
    assert walked.connections == 1


def test_names_of_all_nics_are_read_again_in_turn(walked: Walked) -> None:
    """A leaf that no plan depends on may be late by a few readings, where there are many NICs; not where there are few."""
    for count, readings in ((2, 1), (WHOLE * 3, 3)):
        walked.set(nics(count))
        source = walked.ec2()
        source.read()
        instance = json.loads(walked.file.read_text())
        walked.file.write_text(json.dumps({**instance, "name": "renamed"}))
        for _ in range(readings):
            document = source.read().network
        assert {tree["local-hostname"] for tree in document.values()} == {"renamed.internal"}, count


CHANGES: list[tuple[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]] = [
    ("an address comes", lambda before: [{**before[0], "addresses": [*before[0]["addresses"], "10.4.0.77"]}, *before[1:]]),
    ("an address goes", lambda before: [{**before[0], "addresses": before[0]["addresses"][:1]}, *before[1:]]),
    ("a prefix comes", lambda before: [*before[:-1], {**before[-1], "prefixes": ["10.4.9.64/28"]}]),
    ("a NIC comes", lambda before: [*before, {"mac": "02:00:00:00:02:01", "addresses": ["10.5.0.5"], "subnets": ["10.5.0.0/24"]}]),
    ("a NIC goes", lambda before: before[:-1]),
    ("another NIC has the MAC", lambda before: [*before[:-1], {**before[-1], "addresses": ["10.6.0.5"], "subnets": ["10.6.0.0/16"]}]),
    ("a public address goes", lambda before: [{**before[0], "public": {}}, *before[1:]]),
]  # fmt: skip


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
@pytest.mark.parametrize("refresh", [False, True], ids=["first", "refresh"])
def test_a_change_in_the_middle_of_a_reading_is_read_as_a_whole(walked: Walked, change: Any, refresh: bool) -> None:
    """At whatever request it happens: never half of it."""
    before, after = nics(2), change(nics(2))
    wholes = [
        [nic.addresses for nic in aws.metadata({"placement": {"region": "r"}}, expected(each), {}).nics]
        for each in (before, after)
    ]
    for at in itertools.count(1, 9):
        walked.set(before)
        source = walked.ec2()
        if refresh:
            source.read()
        arrived = walked.change_at(at, after)
        document = source.read()
        if not arrived():  # the reading has fewer requests
            break
        assert [nic.addresses for nic in document.nics] in wholes, at
        assert [nic.addresses for nic in source.read().nics] == wholes[1]
    assert at > 14


def test_metadata_that_change_all_the_time_are_refused(walked: Walked) -> None:
    walked.set(nics(3))
    turn = 0

    def changes(path: str) -> None:
        nonlocal turn
        if path == MACS:
            turn += 1
            walked.set([{**nics(1)[0], "addresses": [f"10.4.0.{turn + 5}"]}, *nics(3)[1:]])

    walked.before = changes
    source = walked.ec2()
    with pytest.raises(Unavailable, match="changes with every reading"):
        source.read()
    assert turn == PASSES
    walked.before = lambda path: None
    assert len(source.read().nics) == 3


def test_a_reading_that_was_cut_short_is_continued(walked: Walked) -> None:
    walked.set(nics(20), status=503, path="02:00:00:00:01:0f/subnet-id")
    source = walked.ec2()
    with pytest.raises(Unavailable):
        source.read()
    walked.requested()
    walked.set(nics(20))
    assert source.read().network == expected(nics(20))
    whole = [path for path in walked.requested() if path.endswith("/subnet-id")]
    assert len(whole) <= 5 + WHOLE, "the others were read before"


def test_a_service_that_limits_requests_is_read_in_the_end(walked: Walked) -> None:
    walked.set(nics(20))
    count = 0

    def every_third() -> bool:
        nonlocal count
        count += 1
        return count % 3 == 0

    walked.busy = every_third
    assert walked.ec2().read().network == expected(nics(20))


@pytest.mark.parametrize(
    "line", ["../iam/", "x/../../iam/security-credentials/role", "a/b", ".", "..", "//evil", "\x1b[31m", "a?b", "a#b"]
)
def test_a_listing_leads_nowhere_else(walked: Walked, line: str) -> None:
    walked.set(nics(1), garbage=f"mac\n{line}", path="/02:00:00:00:01:00/")
    with pytest.raises(Invalid):
        walked.ec2().read()
    assert not [path for path in walked.requested() if "iam" in path]


def test_a_mac_that_is_listed_twice_is_one_nic_or_refused(walked: Walked) -> None:
    walked.set(nics(11)[10:])
    walked.texts[MACS] = "02:00:00:00:01:0a/\n\n02:00:00:00:01:0a/\n"
    assert len(walked.ec2().read().nics) == 1
    walked.texts[MACS] = "02:00:00:00:01:0a/\n02:00:00:00:01:0A/"
    for name in ("", *walked.leaves("02:00:00:00:01:0a")):
        walked.texts[f"{MACS}02:00:00:00:01:0A/{name}"] = walked.leaves("02:00:00:00:01:0a").get(
            name, "device-number\nlocal-ipv4s\nsubnet-ipv4-cidr-block"
        )
    with pytest.raises(Invalid, match="different MACs"):
        walked.ec2().read()


# ---- what no cloud answers


class Scripted:
    """A server that answers each connection with given pieces of bytes, a pause between them."""

    def __init__(self, *pieces: bytes, pause_s: float = 0.0, reset: bool = False, endless: bool = False) -> None:
        self.pieces, self.pause_s, self.reset, self.endless = pieces, pause_s, reset, endless
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self.requests.append(connection.recv(65_536))
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, connection: socket.socket) -> None:
        for piece in self.pieces:
            connection.sendall(piece)
            time.sleep(self.pause_s)
        while self.endless:
            connection.sendall(self.pieces[-1])
            time.sleep(self.pause_s)
        if self.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DOCUMENT = json.dumps(service.azure_document(described("azure"))).encode()
BOMB = gzip.compress(b" " * (8 << 20))


def bodied(body: bytes, headers: bytes = b"") -> bytes:
    return OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


SCRIPTS: dict[str, tuple[tuple[bytes, ...], dict[str, Any]]] = {
    "redirect": ((b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",), {}),
    "permanent redirect": ((b"HTTP/1.1 308 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",), {}),
    "headers that drip": ((OK[:9], b"X"), {"endless": True, "pause_s": 0.02}),
    "a body that drips": ((OK + b"Content-Length: 100000\r\n\r\n", b" "), {"endless": True, "pause_s": 0.02}),
    "chunks without end": ((OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), {"endless": True, "pause_s": 0.02}),
    "informational answers without end": ((b"HTTP/1.1 103 Early Hints\r\n\r\n",), {"endless": True, "pause_s": 0.02}),
    "headers without end": ((OK, b"X-Filler: " + b"x" * 1000 + b"\r\n"), {"endless": True}),
    "a huge body": ((OK + b"Content-Length: 1000000000\r\n\r\n", b" " * (1 << 20)), {"endless": True}),
    "gzip": ((bodied(gzip.compress(DOCUMENT), b"Content-Encoding: gzip\r\n"),), {}),
    "a compressed bomb": ((bodied(BOMB, b"Content-Encoding: gzip\r\n"),), {}),
    "a reset in the middle": ((OK + b"Content-Length: 5000\r\n\r\n" + DOCUMENT[:50],), {"reset": True}),
    "an end in the middle": ((OK + b"Content-Length: 5000\r\n\r\n" + DOCUMENT[:50],), {}),
    "an end in the middle of a chunk": ((OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + DOCUMENT[:50],), {}),
    "nothing": ((), {}),
    "no HTTP": ((b"SSH-2.0-OpenSSH_9.2\r\n",), {"pause_s": 0.05}),
    "two lengths": ((OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",), {}),
    "a negative length": ((OK + b"Content-Length: -1\r\n\r\n",), {}),
    "a page": ((b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",), {}),
    "no UTF-8": ((bodied(b"\xff\xfe{}"),), {}),
    "lone surrogates": ((bodied(DOCUMENT.replace(b'"web"', b'"\\ud800"')),), {}),
    "a number that is none": ((bodied(DOCUMENT.replace(b'"web"', b"NaN")),), {}),
    "a number without end": ((bodied(DOCUMENT.replace(b'"web"', b"9" * 10_000)),), {}),
    "depth": ((bodied(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),), {}),
    "partial content": ((b"HTTP/1.1 206 Partial\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT,), {}),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n",), {}),
    "an upgrade": ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_no_cloud_answers_is_an_error_in_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_S", 0.4)
    pieces, how = SCRIPTS[name]
    server = Scripted(*pieces, **how)
    begun = time.monotonic()
    try:
        source = fetch.Azure(http.Http("Azure", server.url, sleep=lambda _: None))
        with pytest.raises((Unavailable, Invalid)):
            source.read()
        if server.requests:
            assert all(request.startswith(b"GET /metadata/instance?") for request in server.requests), "no redirect is followed"
    finally:
        server.close()
    assert time.monotonic() - begun < 20, "three tries, each with a deadline"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n" + DOCUMENT,
        b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT,
        OK + b"Connection: close\r\n\r\n" + DOCUMENT,
        OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(DOCUMENT), DOCUMENT),
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + bodied(DOCUMENT),
        bodied(DOCUMENT, b"Content-Encoding: identity\r\nSet-Cookie: a=b\r\n"),
    ],
    ids=["HTTP/1.0", "HTTP/1.0 with a length", "until the end", "chunked", "after a hint", "identity"],
)
def test_any_form_of_a_whole_answer_is_read(answer: bytes) -> None:
    server = Scripted(answer)
    try:
        assert len(fetch.Azure(http.Http("Azure", server.url, sleep=lambda _: None)).read().nics) == len(NICS)
        first, *_ = server.requests
        assert b"Accept-Encoding: identity" in first
        assert b"Cookie" not in b"".join(server.requests)
    finally:
        server.close()


@pytest.mark.parametrize("token", [b"\xc3\xa9", b"a\x01b", b"", b"   ", b"a\nb"])
def test_what_cannot_be_a_token_is_none(token: bytes) -> None:
    server = Scripted(bodied(token, b"X-aws-ec2-metadata-token-ttl-seconds: " + b"9" * 5000 + b"\r\n"))
    try:
        with pytest.raises(Unavailable, match="no token"):
            Ec2(http.Http("EC2", server.url, sleep=lambda _: None)).read()
    finally:
        server.close()


def test_no_name_is_resolved_and_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        if not arguments[0][0].isdigit() and ":" not in arguments[0]:
            raise AssertionError(f"{arguments[0]} is resolved")
        return getaddrinfo(*arguments, **options)

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    server = Scripted(bodied(DOCUMENT))
    try:
        assert fetch.Azure(http.Http("Azure", server.url, sleep=lambda _: None)).read().nics
    finally:
        server.close()
    assert {fetch.ENDPOINT, fetch.ENDPOINT6} == {"http://169.254.169.254", "http://[fd00:ec2::254]"}
