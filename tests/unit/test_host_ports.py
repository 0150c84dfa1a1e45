"""Ports of the host: who listens on them, and what holds them. The sockets are real, on loopback addresses of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.gateway.held_ports import HeldPorts, ports_of
from agent.linux import host_ports
from agent.linux.host_ports import HostPort, listeners
from specs.model.network import Network
from specs.model.publish import Publish
from warren.errors import Conflict

A, B = "127.77.0.1", "127.77.0.2"


@contextmanager
def bound(address: str, port: int = 0, kind: int = socket.SOCK_STREAM, listen: bool = True, reuse: bool = True) -> Iterator[int]:
    """A socket of a process of the host; its port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as listener:
        if reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM and listen:
            listener.listen()
        yield int(listener.getsockname()[1])


def at(address: str, port: int, proto: str = "tcp") -> HostPort:
    return HostPort(proto, ip_address(address), port)


@pytest.mark.parametrize(
    ("listens", "requested", "conflict"),
    [(A, A, True), (A, B, False), (A, "0.0.0.0", True), ("0.0.0.0", A, True), ("::", "0.0.0.0", True), ("::", "::", True), ("::", A, True),
     ("::1", "::", True), ("::1", "0.0.0.0", False), ("0.0.0.0", "::", False), (A, "192.0.2.1", False), ("0.0.0.0", "192.0.2.1", True)],
)  # fmt: skip
@pytest.mark.parametrize(("proto", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_port_is_in_use_where_the_address_of_a_listener_means_the_same(
    listens: str, requested: str, conflict: bool, proto: str, kind: int
) -> None:
    """192.0.2.1 is no address of this machine: it may be one later."""
    held = HeldPorts("h1")
    with bound(listens, kind=kind, reuse=proto == "tcp") as port:
        if conflict:
            shown = "all addresses" if listens in ("0.0.0.0", "::") else listens
            with pytest.raises(Conflict, match=rf"^port {port}/{proto} is in use on h1 \({shown}\)$") as error:
                held.check([at(requested, port, proto)])
            assert error.value.field == "publish"
        else:
            held.check([at(requested, port, proto)])
        other = "udp" if proto == "tcp" else "tcp"
        held.check([at(requested, port, other)])
    held.check([at(requested, port, proto)])


def test_a_connection_of_the_host_is_no_listener() -> None:
    with bound(A) as port, socket.create_connection((A, port)) as client:
        client_port = client.getsockname()[1]
        HeldPorts("h1").check([at("0.0.0.0", client_port)])
        held = HeldPorts("h1")
        held.reconcile({at("0.0.0.0", client_port)})
        assert (held.taken, held.problems) == (frozenset(), [])


def test_a_held_port_is_nobody_elses_until_it_is_given_up() -> None:
    held = HeldPorts("h1")
    with bound(A) as port:
        pass
    for proto, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        held.reconcile({at(A, port, proto)})
        with pytest.raises(OSError, match="in use"), bound(A, port, kind):
            pass
        with pytest.raises(OSError, match="in use"), bound("0.0.0.0", port, kind):
            pass
        held.check([at(A, port, proto)])  # an endpoint has it: the store decides
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((A, port), 5)
        held.reconcile(set())
        with bound(A, port, kind, reuse=False):
            pass
    held.close()


def test_a_port_that_a_process_has_is_told_and_held_when_it_is_free() -> None:
    held = HeldPorts("h1")
    with bound(A) as port:
        held.reconcile({at(A, port), at(B, port)})
        assert held.taken == {at(A, port)}
        (line,) = held.problems
        assert f"published port {port}/tcp: a process of this host listens on it ({A})" in line
    held.reconcile({at(A, port), at(B, port)})
    assert (held.taken, held.problems) == (frozenset(), [])
    with pytest.raises(OSError, match="in use"), bound(A, port):
        pass
    held.close()


def test_a_binding_that_moves_between_addresses_is_no_conflict_with_itself() -> None:
    held = HeldPorts("h1")
    with bound(A) as port:
        pass
    for address in (A, "0.0.0.0", B):
        held.check([at(address, port)])
        held.reconcile({at(address, port)})
        assert (held.taken, held.problems) == (frozenset(), [])
    held.close()


def test_more_ports_than_the_process_may_open_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(port: HostPort) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("agent.gateway.held_ports.hold", full)
    held = HeldPorts("h1")
    held.reconcile({at(A, 8080)})
    assert (held.taken, held.problems) == (frozenset(), ["published port 8080/tcp cannot be held: Too many open files"])


def test_listeners_are_read_with_their_addresses() -> None:
    with ExitStack() as stack:
        for address in (A, "0.0.0.0", "::", "::1"):
            for proto, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
                port = stack.enter_context(bound(address, kind=kind))
                assert (ip_address(address), port) in {(listener.address, listener.port) for listener in listeners(proto)}


def test_sctp_listeners_are_read_where_the_kernel_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sctp").mkdir()
    head = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
    (tmp_path / "sctp" / "eps").write_text(
        head + "ffff88017e0a0200 ffff880300f7fa00 2   10  29   11165  200 299689357 10.0.0.102 fd00::1\n"
    )
    monkeypatch.setattr(host_ports, "TABLES", tmp_path)
    assert [(str(listener.address), listener.port, listener.inode) for listener in listeners("sctp")] == [
        ("10.0.0.102", 11165, 299689357), ("fd00::1", 11165, 299689357),
    ]  # fmt: skip
    monkeypatch.setattr(host_ports, "TABLES", tmp_path / "none")
    assert list(listeners("sctp")) == []


def network(*ranges: str) -> Network:
    fields = {"ipv6_range" if ":" in prefix else "ip_range": prefix for prefix in ranges}
    return Network.model_validate({"id": "n", "name": "n", "vxlan_vni": 7, **fields})


def test_ports_mean_the_versions_of_ip_that_the_network_has() -> None:
    everywhere, bound4 = (
        Publish(host_port="80-81", port="8080-8081"),
        Publish(host_port=53, port=53, proto="udp", host_ip=ip_address(A)),
    )
    assert {str(p.address) for p in ports_of([everywhere], network("10.0.0.0/24", "fd00::/64"))} == {"0.0.0.0", "::"}
    assert {(str(p), str(p.address)) for p in ports_of([everywhere, bound4], network("10.0.0.0/24"))} == {
        ("80/tcp", "0.0.0.0"), ("81/tcp", "0.0.0.0"), ("53/udp", A),
    }  # fmt: skip
    assert ports_of([bound4], network("fd00::/64")) == set()
