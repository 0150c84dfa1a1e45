"""Fixtures: a private etcd on free loopback ports, and stores in it."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.store.etcd import Store
from tests.waiting import eventually
from warren.errors import Unavailable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Etcd:
    """One etcd process that can be stopped and started again with its data."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.client, self.peer = directory, free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client}"

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer}"
        command = ["etcd", "--data-dir", str(self.directory / "data"), "--listen-client-urls", self.url,
                   "--advertise-client-urls", self.url, "--listen-peer-urls", peer,
                   "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]  # fmt: skip
        with (self.directory / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        store = Store([self.url], timeout_s=0.5)

        def answers() -> bool:
            try:
                store.get("x")
            except Unavailable:
                raise AssertionError((self.directory / "etcd.log").read_text()[-2000:]) from None
            return True

        eventually(answers)
        store.close()

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with tempfile.TemporaryDirectory(prefix="warren-etcd-") as directory:
        server = Etcd(Path(directory))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def store(etcd: Etcd, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store with a prefix of the test's own."""
    store = Store([etcd.url], prefix=f"/{request.node.name}")
    yield store
    store.close()
