"""ACLs, meters and mirror sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.results import (
    Acl,
    AclCheck,
    AclList,
    Meter,
    Mirror,
    all_of,
)


def acls() -> Operation[AclList]:
    """All ACLs and where they are used."""
    return AclList.of((yield get("/acls")))


def acl(name: str) -> Operation[Acl]:
    """One ACL: its rules, and how many packets each has matched on all hosts."""
    answer = yield get(path("acls", name))
    return replace(Acl.of(answer.get("acl")), unreachable_hosts=tuple(answer.get("unasked") or ()))


def check_acl(name: str, src: str, dst: str, proto: str = "icmp", port: int | None = None) -> Operation[AclCheck]:
    """What decides over a packet between two endpoints: by the specs alone, and by the switches."""
    return AclCheck.of((yield post(path("acls", name, "check"), {"src": src, "dst": dst, "proto": proto, "port": port})))


def delete_acl(name: str) -> Operation[None]:
    """Delete an ACL that nothing uses."""
    yield delete(path("acls", name))


def meters() -> Operation[tuple[Meter, ...]]:
    """All meters."""
    return all_of(Meter, (yield get("/meters")), "meters")


def mirrors(tenant: str | None = None) -> Operation[tuple[Mirror, ...]]:
    """All mirror sessions, or those that copy from a tenant's networks."""
    return all_of(Mirror, (yield get("/mirrors", tenant=tenant)), "mirrors")


def put_mirror(
    name: str,
    *,
    sources: Iterable[Mapping[str, Any]],
    to: Mapping[str, Any],
    direction: str = "both",
    match: Any = None,
    vlan: int | None = None,
    snap: int | None = None,
) -> Operation[Mirror]:
    """Create a mirror session, or change the one of that name. The fields are those of documents (docs/mirror.md)."""
    body = stated(name=name, sources=list(sources), to=to, direction=direction, match=match, vlan=vlan, snap=snap)
    return Mirror.of((yield post("/mirrors", body)).get("mirror"))


def delete_mirror(name: str) -> Operation[None]:
    """End a mirror session."""
    yield delete(path("mirrors", name))
