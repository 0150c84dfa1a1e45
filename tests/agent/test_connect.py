"""CONNECT into a network: which container it goes through, and what it reaches."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.agent.conftest import Host
from tests.programs import program, ready
from tests.waiting import LIMIT_S


def connect(host: Host, network: str, ip: str, port: int) -> tuple[int, bytes]:
    """The status of a CONNECT, and what came back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(f"{host.dir}/agent.sock")
        client.sendall(f"CONNECT /networks/{network}?ip={ip}&port={port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = client.recv(65536)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            answer += data
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@contextmanager
def greeter(netns: str, port: int) -> Iterator[None]:
    """A server in a container, on all its addresses."""
    command = ["ip", "netns", "exec", netns.rpartition("/")[2], *program("serve", "hello", port)]
    server = ready(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        yield
    finally:
        server.kill()
        server.wait()


def test_another_container_is_tried_when_the_first_has_ended(host: Host) -> None:
    network, ended, bare, lives, target = host.network(ip_range="10.8.0.0/24"), *(host.container() for _ in range(4))
    host.attach(network, ended)
    host.attach(network, bare, set_addresses=False)
    host.attach(network, lives)
    address = str(host.attach(network, target)["target_veth_ip"]).partition("/")[0]
    subprocess.run(["ip", "netns", "del", ended.rpartition("/")[2]], check=True)
    host.namespaces.remove(ended.rpartition("/")[2])
    with greeter(target, 7001):
        assert connect(host, network, address, 7001) == (200, b"hello")
    status, body = connect(host, network, address, 7001)
    assert (status, json.loads(body)["detail"]["kind"]) == (503, "unavailable")


def test_only_addresses_of_the_network_are_reached(host: Host) -> None:
    network, netns = host.network(ip_range="10.8.1.0/24", ipv6_range="fd08::/64"), host.container()
    endpoint = host.attach(network, netns)
    reached = [str(endpoint[name]).partition("/")[0] for name in ("target_veth_ip", "target_veth_ipv6")]
    host.inside(netns, "ip", "link", "set", "lo", "up")
    assert host.inside(netns, "ip", "addr", "add", "198.51.100.7/32", "dev", "lo").returncode == 0
    beyond = ["127.0.0.1", "::1", "198.51.100.7", "0.0.0.0", "::ffff:127.0.0.1", "10.8.2.1", "fe80::1%25eth0"]
    with greeter(netns, 7002):
        for address in reached:
            assert connect(host, network, address, 7002) == (200, b"hello"), address
        for address in beyond:
            status, body = connect(host, network, address, 7002)
            assert (status, json.loads(body)["detail"]["path"]) == (400, "ip"), address
        host.stop("agent", signal.SIGTERM)
        host.env["WARREN_CONNECT"] = "any"
        host.start("agent")
        try:
            for address in (*reached, "127.0.0.1", "::1", "198.51.100.7"):
                assert connect(host, network, address, 7002) == (200, b"hello"), address
        finally:
            host.stop("agent", signal.SIGTERM)
            del host.env["WARREN_CONNECT"]
            host.start("agent")


@pytest.mark.parametrize("gone", [False, True])
def test_a_network_without_a_living_container_is_refused(host: Host, gone: bool) -> None:
    network, netns = host.network(ip_range="10.8.3.0/24"), host.container()
    if gone:
        host.attach(network, netns)
        subprocess.run(["ip", "netns", "del", netns.rpartition("/")[2]], check=True)
        host.namespaces.remove(netns.rpartition("/")[2])
    status, body = connect(host, network, "10.8.3.2", 80)
    assert (status, json.loads(body)["detail"]["path"]) == (400, "network")
