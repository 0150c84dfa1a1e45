"""serve GREETING PORT...: TCP and UDP servers (80, or 80/tcp, 53/udp). TCP greets and echoes, UDP answers each datagram with the greeting,
in which {client} stands for the client's address, from the address that was asked."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

greeting, ports = sys.argv[1], sys.argv[2:]


def greet(address: str) -> bytes:
    return greeting.replace("{client}", address.removeprefix("::ffff:")).encode()


def echo(connection: socket.socket, client: tuple[str, int]) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(greet(client[0]))
        while data := connection.recv(65536):
            connection.sendall(data)


def tcp(server: socket.socket) -> None:
    while True:
        threading.Thread(target=echo, args=server.accept()).start()


def udp(server: socket.socket) -> None:
    while True:
        _, controls, _, client = server.recvmsg(100, socket.CMSG_SPACE(20))
        addressed = [data[:16] + bytes(4) for _, kind, data in controls if kind == socket.IPV6_PKTINFO]  # without the interface
        replies = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address) for address in addressed]
        server.sendmsg([greet(client[0])], replies, 0, client)


for port, _, proto in (each.partition("/") for each in ports):
    if proto in ("", "tcp"):
        listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        threading.Thread(target=tcp, args=(listener,)).start()
    if proto in ("", "udp"):
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        datagrams.bind(("::", int(port)))
        threading.Thread(target=udp, args=(datagrams,)).start()
print("ready", flush=True)
