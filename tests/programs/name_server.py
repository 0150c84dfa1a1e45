"""A name server for tests, over UDP and TCP on an address: it answers every question for an address with one address, and counts what it was asked on standard
output."""

from __future__ import annotations

import socketserver
import sys
import threading

import dns.message
import dns.rrset


def answer(wire: bytes) -> bytes:
    query = dns.message.from_wire(wire)
    reply = dns.message.make_response(query)
    question = query.question[0]
    print(question.name, flush=True)
    count = 100 if question.name.to_text().startswith("many") else 1
    rdatas = [f"192.0.2.{i}" for i in range(53, 53 + count)]
    reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", *rdatas))
    return reply.to_wire()


class Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(answer(data), self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        size = int.from_bytes(self.rfile.read(2), "big")
        reply = answer(self.rfile.read(size))
        self.wfile.write(len(reply).to_bytes(2, "big") + reply)


socketserver.TCPServer.allow_reuse_address = True
tcp = socketserver.ThreadingTCPServer((sys.argv[1], 53), Tcp)
threading.Thread(target=tcp.serve_forever, daemon=True).start()
udp = socketserver.UDPServer((sys.argv[1], 53), Udp)
print("ready", flush=True)
udp.serve_forever()
