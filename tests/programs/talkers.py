"""talkers PORT ADDRESS...: speaks with other talkers for as long as it lives. To PORT of each address it sends a UDP datagram every 20 ms, and keeps
a TCP connection on which it sends a line every 50 ms; it opens a broken one again. Prints "ready". For each line of its input it prints, as JSON, the
addresses that it has heard since the last one, by protocol."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import defaultdict

UDP_PAUSE_S, TCP_PAUSE_S = 0.02, 0.05
GIVE_UP_S = 1.0  # after which a TCP connection that is not acknowledged counts as broken
TCP_USER_TIMEOUT = 18  # tcp(7)
PORT, TARGETS = int(sys.argv[1]), sys.argv[2:]
heard: dict[str, set[str]] = defaultdict(set)


class Datagrams(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        heard["udp"].add(addr[0])


async def send_datagrams(transport: asyncio.DatagramTransport) -> None:
    while True:
        for target in TARGETS:
            transport.sendto(b"x", (target, PORT))
        await asyncio.sleep(UDP_PAUSE_S)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("peername")[0]
    try:
        while await reader.readline():
            heard["tcp"].add(peer)
    except OSError:
        pass
    writer.close()


async def keep_connected(target: str) -> None:
    while True:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                _, writer = await asyncio.open_connection(target, PORT)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(GIVE_UP_S * 1000))
            while not writer.is_closing():
                writer.write(b"x\n")
                await writer.drain()
                await asyncio.sleep(TCP_PAUSE_S)
        except (OSError, TimeoutError):
            await asyncio.sleep(TCP_PAUSE_S)


async def answer() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps({proto: sorted(addresses) for proto, addresses in heard.items()}), flush=True)
        heard.clear()


async def main() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, ("0.0.0.0", PORT))
    await asyncio.start_server(serve, "0.0.0.0", PORT)
    print("ready", flush=True)
    tasks = [asyncio.ensure_future(task) for task in (send_datagrams(transport), *map(keep_connected, TARGETS))]
    await answer()
    for task in tasks:
        task.cancel()


asyncio.run(main())
