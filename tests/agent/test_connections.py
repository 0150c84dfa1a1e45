"""Clients that keep connections without need: half-sent requests, idle connections, and paths that would block whoever opens them."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.api.connections import HEAD_S
from tests.agent.conftest import Host
from tests.waiting import LIMIT_S

HEAD = b"POST /networks HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n"


@contextmanager
def connections(host: Host, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            opened[-1].connect(f"{host.dir}/agent.sock")
            opened[-1].settimeout(LIMIT_S)
            opened[-1].sendall(sent)
        yield opened


def answer(connection: socket.socket) -> bytes:
    """All that comes until the agent closes the connection."""
    received = b""
    while piece := connection.recv(4096):
        received += piece
    return received


HALF_SENT = (b"", b"GET /ver", HEAD, b"CONNECT /networks/x?ip=10.0.0.1&port=1 HTTP/1.1\r\nA: ")


def test_a_request_must_arrive_in_time(host: Host) -> None:
    """The first on a connection, and a second one. All wait at once, because the limit is real time."""
    begin = time.monotonic()
    with ExitStack() as stack:
        first = [stack.enter_context(connections(host, 20, sent)) for sent in HALF_SENT]
        (later,) = stack.enter_context(connections(host, 1, b"GET /version HTTP/1.1\r\nHost: agent\r\n\r\n"))
        assert b"200" in later.recv(4096)
        later.sendall(b"GET /ver")
        for sent, opened in zip(HALF_SENT, first, strict=True):
            opened[0].sendall(b"x" if sent else b"")  # another byte does not begin the time anew
        answers = [answer(connection) for opened in first for connection in opened]
        assert time.monotonic() - begin >= HEAD_S * 0.9
        assert all(each.startswith(b"HTTP/1.1 408 ") and b"did not arrive in 10 s" in each for each in answers), answers
        assert b"HTTP/1.1 408 " in answer(later)
    assert host.http.get("/version").status_code == 200


def test_a_slow_request_that_arrives_is_answered(host: Host) -> None:
    body = b'{"name": ""}'
    with connections(host, 1) as (connection,):
        for byte in HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body:
            connection.sendall(bytes([byte]))
        assert answer(connection).startswith(b"HTTP/1.1 201 ")


@contextmanager
def files(host: Host, limit: int) -> Iterator[None]:
    """The agent may have so many files."""
    pid = host.processes["agent"].pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_there_are_so_many_connections_and_no_more(host: Host) -> None:
    log = host.dir / "agent.log"
    with files(host, 400), connections(host, 300) as opened:
        refused, _, _ = select.select(opened[150:], [], [], LIMIT_S)
        assert refused
        assert answer(refused[0]).startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in b"".join(log.read_bytes().splitlines()[-3:]) or b"connections.full" in log.read_bytes()
    host.until(lambda: host.http.get("/version").status_code == 200)


def test_a_process_without_files_says_so_once(host: Host) -> None:
    log = host.dir / "agent.log"
    before = log.stat().st_size
    used = len(os.listdir(f"/proc/{host.processes['agent'].pid}/fd"))
    with files(host, used + 3), connections(host, 40):
        host.until(lambda: b"connections.not_accepted" in log.read_bytes())
        time.sleep(3)  # asyncio tries again each second
    written = log.read_text()[before:]
    assert written.count("connections.not_accepted") == 1
    assert len(written) < 40_000, "each second, other loops say that they have no files; asyncio alone wrote megabytes"
    host.until(lambda: host.http.get("/version").status_code == 200)


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "socket", "file", "absent", "dangling"])
def test_a_path_that_is_no_namespace_is_refused_at_once(host: Host, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    network = host.network()
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "device":
                path = Path("/dev/null")
            case "directory":
                path.mkdir()
            case "socket":
                listener.bind(str(path))
            case "file":
                path.touch()
            case "dangling":
                path.symlink_to("/proc/1/ns/nothing")
        params = {"ns_handle_path": str(path)}
        begin = time.monotonic()
        reply = host.http.post("/endpoints", json={"network_id": network, "activate": True, "activate_params": params})
        environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": str(path)}
        config = {"cniVersion": "1.0.0", "name": "n", "type": "warren", "network": network}
        cni = host.http.post("/cni", json={"environment": environment, "config": config})
    assert (reply.status_code, cni.status_code) == (400, 400), (reply.text, cni.text)
    assert "the path of a network namespace" in reply.json()["error"]
    assert time.monotonic() - begin < LIMIT_S / 2
