"""ACLs and meters over HTTP: what they say, where they are used, how often each rule has been hit on all hosts, and what decides
between two endpoints. Changes come by documents (POST /apply)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Response

from agent.agent import Agent
from agent.policy_check import Check, decide
from agent.switch import Switch, read
from specs.snapshot import Snapshot
from specs.store import keys
from specs.store.policies import named_by
from warren.errors import NotFound, WarrenError

Ask = Callable[[str, str], Any]  # host, path -> the answer of its agent


def add(app: FastAPI, agent: Agent, switch: Switch, ask: Ask, trace: Callable[..., dict[str, Any]]) -> None:
    """Put the routes into the application."""
    store = agent.specs.store

    @app.get("/acls", tags=["Warren"])
    def acls() -> dict[str, Any]:
        """All ACLs, with their number of rules and where they are used."""
        state = read(store)
        uses = used(state)
        return {
            "acls": [
                {"name": acl.name, "rules": len(acl.rules), "stateful": acl.stateful, "description": acl.description,
                 "used_by": uses.get(acl.name, [])}
                for _, acl in sorted(state.acls.items())
            ],
            "missing": sorted(set(uses) - set(state.acls)),
        }  # fmt: skip

    @app.get("/acls/{name}", tags=["Warren"])
    def show(name: str) -> dict[str, Any]:
        """One ACL: its rules, where it is used, and the packets that each rule has met on all hosts (`unasked`: hosts whose agent
        did not answer)."""
        state = read(store)
        acl = state.acls.get(name)
        if acl is None:
            raise NotFound("acl", name)
        hits: Counter[str] = Counter()
        unasked = []
        for host in sorted(state.hosts):
            try:
                hits.update(switch.hits() if host == agent.host.name else ask(host, "/acl-hits")["hits"])
            except WarrenError:
                unasked.append(host)
        rules = [
            {"number": number, "rule": rule, "packets": hits[f"{name}#{number}"]} for number, rule in enumerate(acl.rules, 1)
        ]
        uses = used(state).get(name, [])
        return {"acl": {**acl.data(), "rules": rules, "used_by": uses, "stateful": acl.stateful}, "unasked": unasked}

    @app.delete("/acls/{name}", status_code=204, tags=["Warren"])
    def delete(name: str) -> Response:
        """Delete an ACL that nothing uses."""
        agent.known.wrote(keys.acl(name), None, agent.specs.delete_acl(name))
        return Response(status_code=204)

    @app.get("/meters", tags=["Warren"])
    def meters() -> dict[str, Any]:
        """All meters."""
        return {"meters": [meter.data() for meter in sorted(agent.specs.meters(), key=lambda m: m.name)]}

    @app.get("/hosts/{name}/acl-hits", tags=["Warren"])
    def hits(name: str) -> dict[str, Any]:
        """Packets per rule (ACL#NUMBER) on one host, since its flows were installed."""
        return {"hits": switch.hits() if name == agent.host.name else ask(name, "/acl-hits")["hits"]}

    @app.post("/acls/{name}/check", tags=["Warren"])
    def check(name: str, body: Check) -> dict[str, Any]:
        """What decides over a packet between two endpoints: by the specs alone, and by the switches. The two must agree."""
        source, target = agent.endpoint(body.src), agent.endpoint(body.dst)
        return decide(read(store), name, source, target, body, trace)


def used(state: Snapshot) -> dict[str, list[str]]:
    """ACL names to what names them: KIND/NAME."""
    found: dict[str, list[str]] = {}
    for kind in ("tenants", "hosts", "networks", "endpoints"):
        for record in getattr(state, kind).values():
            for name in sorted(named_by(record)):
                called = getattr(record, "name", None) or record.id
                found.setdefault(name, []).append(f"{kind[:-1]}/{called}")
    return {name: sorted(where) for name, where in found.items()}
