"""station PORT: a UDP socket on a port, told by lines of its input what to do; it prints "ready" first. `to ADDRESS PORT` sends a numbered
datagram there every 10 ms, `quiet` stops that, `echo on` and `echo off` say whether it answers what it hears, and `heard` prints, as JSON,
how many datagrams have come from each address and port since the last `heard`, and how many numbers were missing between them."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

PAUSE_S = 0.01
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", int(sys.argv[1])))
sock.setblocking(False)
print("ready", flush=True)
targets: set[tuple[str, int]] = set()
echo = True
heard: dict[str, list[int]] = {}
number, next_at, waiting = 0, time.monotonic(), ""


def sockaddr(address: str, port: int) -> tuple[str, int]:
    return (address if ":" in address else f"::ffff:{address}"), port


def send(data: bytes, target: tuple[str, int]) -> None:
    try:
        sock.sendto(data, target)
    except OSError:  # an ICMP error about an earlier datagram, or no route just now
        pass


def receive() -> None:
    while True:
        try:
            data, sender = sock.recvfrom(2000)
        except BlockingIOError:
            return
        except OSError:
            continue
        kind, _, text = data.decode().partition(" ")
        if kind == "say":
            heard.setdefault(f"{sender[0].removeprefix('::ffff:')} {sender[1]}", []).append(int(text))
            if echo:
                send(f"back {text}".encode(), sender[:2])
        else:
            heard.setdefault(f"{sender[0].removeprefix('::ffff:')} {sender[1]}", []).append(int(text))


def obey(line: str) -> None:
    global echo
    match line.split():
        case ["to", address, port]:
            targets.add(sockaddr(address, int(port)))
        case ["quiet"]:
            targets.clear()
        case ["echo", state]:
            echo = state == "on"
        case ["heard"]:
            summary = {who: [len(numbers), max(numbers) - min(numbers) + 1 - len(set(numbers))] for who, numbers in heard.items()}
            heard.clear()
            print(json.dumps(summary), flush=True)


while True:
    readable, _, _ = select.select([sock, sys.stdin], [], [], max(0.0, next_at - time.monotonic()))
    if sock in readable:
        receive()
    if sys.stdin in readable:
        data = os.read(sys.stdin.fileno(), 4096)  # not readline: select does not see what Python has read ahead
        if not data:
            break
        *lines, waiting = (waiting + data.decode()).split("\n")
        for line in lines:
            obey(line)
    if time.monotonic() >= next_at:
        number, next_at = number + 1, next_at + PAUSE_S
        for target in targets:
            send(f"say {number}".encode(), target)
