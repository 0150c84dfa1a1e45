"""ACLs and meters over HTTP: their rules, where they are used, the hits of each rule on all hosts, and the rule that decides
between two endpoints. Changes come by documents (POST /apply)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter, Response

from agent.api.hosts import follow
from agent.core import Core
from agent.policy_check import Check, decide
from agent.switch import read_snapshot
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot
from specs.store.acls import named_by
from warren.errors import NotFound, WarrenError


def router(core: Core) -> APIRouter:
    """The routes of ACLs and meters."""
    router = APIRouter(tags=["Warren"])

    @router.get("/acls")
    def acls() -> dict[str, Any]:
        """All ACLs, with their number of rules and where they are used."""
        snapshot = read_snapshot(core.store)
        uses = _uses(snapshot)
        rows = [
            {
                "name": acl.name,
                "rules": len(acl.rules),
                "stateful": acl.stateful,
                "description": acl.description,
                "used_by": uses.get(acl.name, []),
            }
            for _, acl in sorted(snapshot.acls.items())
        ]
        return {"acls": rows, "missing": sorted(set(uses) - set(snapshot.acls))}

    @router.get("/acls/{name}")
    def show_acl(name: str) -> dict[str, Any]:
        """One ACL: its rules, where it is used, and the packets that each rule has met on all hosts (`unasked`: hosts whose agent
        did not answer)."""
        snapshot = read_snapshot(core.store)
        acl = snapshot.acls.get(name)
        if acl is None:
            raise NotFound("acl", name)
        hits, unreachable_hosts = _hits_of_all(core, snapshot)
        rules = [
            {"number": number, "rule": rule, "packets": hits[f"{name}#{number}"]} for number, rule in enumerate(acl.rules, 1)
        ]
        uses = _uses(snapshot).get(name, [])
        return {"acl": {**acl.data(), "rules": rules, "used_by": uses, "stateful": acl.stateful}, "unasked": unreachable_hosts}

    @router.delete("/acls/{name}", status_code=204)
    def delete_acl(name: str) -> Response:
        """Delete an ACL that nothing uses."""
        core.repository.delete_acl(name)
        return Response(status_code=204)

    @router.get("/meters")
    def meters() -> dict[str, Any]:
        """All meters."""
        return {"meters": [meter.data() for meter in sorted(core.repository.meters(), key=lambda m: m.name)]}

    @router.get("/hosts/{name}/acl-hits")
    def acl_hits(name: str) -> dict[str, Any]:
        """Packets per rule (ACL#NUMBER) on one host, since its flows were installed."""
        return {"hits": _hits(core, name)}

    @router.post("/acls/{name}/check")
    def check(name: str, body: Check) -> dict[str, Any]:
        """The rule that decides over a packet between two endpoints, found twice: from the specs alone, and by the switches.
        The two must agree."""
        source, target = core.lookup.endpoint(body.src), core.lookup.endpoint(body.dst)

        def traced(source: Endpoint, target: Endpoint, proto: str, port: int | None) -> dict[str, Any]:
            return follow(core, source, target, proto, port)

        return decide(read_snapshot(core.store), name, source, target, body, traced)

    return router


def _hits(core: Core, host: str) -> dict[str, int]:
    if core.remote.is_local(host):
        return core.switch.hits()
    hits: dict[str, int] = core.remote.request_json(host, "GET", "/acl-hits")["hits"]
    return hits


def _hits_of_all(core: Core, snapshot: Snapshot) -> tuple[Counter[str], list[str]]:
    """Packets per rule on all hosts, and the hosts that cannot be reached."""
    hits: Counter[str] = Counter()
    unreachable_hosts = []
    for host in sorted(snapshot.hosts):
        try:
            hits.update(_hits(core, host))
        except WarrenError:
            unreachable_hosts.append(host)
    return hits, unreachable_hosts


def _uses(snapshot: Snapshot) -> dict[str, list[str]]:
    """ACL names to the records that name them, as KIND/NAME."""
    uses: dict[str, list[str]] = {}
    for kind in ("tenants", "hosts", "networks", "endpoints"):
        for record in getattr(snapshot, kind).values():
            for acl in sorted(named_by(record)):
                uses.setdefault(acl, []).append(f"{kind[:-1]}/{getattr(record, 'name', None) or record.id}")
    return {name: sorted(where) for name, where in uses.items()}
