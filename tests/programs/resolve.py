"""Asks a name server, with a resolver that is not the server's: `resolve.py udp|tcp SERVER NAME/TYPE...` prints a JSON list with, for each question, the
code and the sorted values. A question that gets no answer is asked again."""

from __future__ import annotations

import json
import sys

import dns.exception
import dns.message
import dns.query
import dns.rcode

TRIES, WAIT_S = 40, 1.5


def resolve(transport: str, server: str, name: str, kind: str) -> list[object]:
    query = dns.message.make_query(name, kind)
    send = dns.query.tcp if transport == "tcp" else dns.query.udp
    for _ in range(TRIES):
        try:
            reply = send(query, server, timeout=WAIT_S)
        except (dns.exception.Timeout, OSError, EOFError):
            continue
        return [dns.rcode.to_text(reply.rcode()), sorted(item.to_text() for rrset in reply.answer for item in rrset)]
    return ["nothing", []]


transport, server, *questions = sys.argv[1:]
print(json.dumps([resolve(transport, server, *question.split("/")) for question in questions]))
