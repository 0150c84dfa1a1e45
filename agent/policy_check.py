"""Finds which rules decide about a packet between two endpoints, in two independent ways: acl/evaluate.py evaluates the
specs (it shares no code with the compiler), and ofproto/trace follows the packet through the hosts' flows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from acl.evaluate import PacketFields, evaluate, packet
from acl.policy import PolicyKey
from intent.record_policies import RecordPolicies
from pipeline.protocols import ECHO, ICMP, ICMPV6, IPV4, IPV6, WITH_PORTS
from specs.checks import joined, routers_in_order, valid_networks
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot
from warren.errors import Conflict, Invalid, NotFound

PROTOCOLS = {**WITH_PORTS, "icmp": ICMP}


class Check(BaseModel):
    """Body of POST /acls/{name}/check: a packet between two endpoints (name or id)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    src: str
    dst: str
    proto: str = "icmp"
    port: int | None = None


def decide(
    state: Snapshot, name: str, source: Endpoint, target: Endpoint, body: Check, trace: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Return the response to a check. Raises `NotFound`, `Invalid`, and `Conflict` if the ACL does not apply to such
    packets."""
    if name not in state.acls:
        raise NotFound("acl", name)
    if body.proto not in PROTOCOLS:
        raise Invalid("proto", body.proto, f"one of {', '.join(PROTOCOLS)}")
    policies = RecordPolicies(state)
    sends, receives = policies.of(source).sends, policies.of(target).receives
    applied = [acl for key in (sends, receives) if key is not None for acl in key.acls]
    apart = isolation(state, source, target)
    if name not in applied:
        passing = apart or "everything passes"
        others = f"the ACLs that apply are {', '.join(applied)}" if applied else f"no ACL applies: {passing}"
        raise Conflict(f"ACL {name} does not apply between {source.name or source.id} and {target.name or target.id}; {others}")
    sent = between(source, target, body.proto, body.port)
    spec = judge(policies, sends, None if apart else receives, sent)
    if apart and spec["allow"]:
        spec |= {"allow": False, "reason": apart}
    traced = trace(source, target, body.proto, body.port)
    steps = [step["origin"] for hop in traced["hosts"] for step in hop["steps"] if step["table"] in ("ACL_IN", "ACL_OUT")]
    rules = [origin.removeprefix("acl/") for origin in steps if origin.startswith("acl/")]
    by_switch = {"allow": traced["verdict"] == "delivered", "rules": rules, "reason": traced["reason"]}
    same = (spec["allow"], spec["rules"]) == (by_switch["allow"], by_switch["rules"])
    return {"allow": spec["allow"], "rules": spec["rules"], "by_specs": spec, "by_switch": by_switch, "agree": same}


def isolation(state: Snapshot, source: Endpoint, target: Endpoint) -> str:
    """Return why no packet passes between two endpoints, whatever the ACLs say; empty text if one may."""
    for endpoint in (source, target):
        if not endpoint.active:
            return f"nothing passes, because endpoint {endpoint.name or endpoint.id} is not active"
    routed = joined(routers_in_order(state), valid_networks(state)[0])[0]
    if source.network_id == target.network_id or target.network_id in routed.get(source.network_id, {}):
        return ""
    names = [state.networks[i].name if i in state.networks else i for i in (source.network_id, target.network_id)]
    return f"nothing passes, because no router joins the networks {names[0]} and {names[1]}"


def judge(policies: RecordPolicies, sends: PolicyKey | None, receives: PolicyKey | None, sent: PacketFields) -> dict[str, Any]:
    """Return whether a packet passes both policies, and the rules that decide (ACL#NUMBER); the implicit deny has no rule."""
    rules: list[str] = []
    current = sent
    for key in (sends, receives):
        if key is None:
            continue
        of_policy = policies.rules(key)
        if of_policy is None:
            return {"allow": False, "rules": rules, "reason": f"an ACL of {', '.join(key.acls)} does not exist"}
        verdict = evaluate(of_policy, current, partial(policies.members, key.network_id))
        if verdict.rule is not None:
            rules.append(f"{verdict.acl}#{verdict.rule}")
        if not verdict.allow:
            reason = "by that rule" if verdict.rule is not None else f"no rule of {', '.join(key.acls)} allows it"
            return {"allow": False, "rules": rules, "reason": reason}
        current = verdict.packet
    return {"allow": True, "rules": rules, "reason": ""}


def between(source: Endpoint, target: Endpoint, proto: str, port: int | None) -> PacketFields:
    """Return the first packet of a connection: IPv4 if both endpoints have an IPv4 address, otherwise IPv6."""
    fields: dict[str, Any] = {"eth_src": source.mac_address, "eth_dst": target.mac_address}
    if source.ipv4_address and target.ipv4_address:
        fields |= {"eth_type": IPV4, "ipv4_src": str(source.ipv4_address), "ipv4_dst": str(target.ipv4_address)}
        fields |= {"ip_proto": PROTOCOLS[proto], **({"icmpv4_type": ECHO, "icmpv4_code": 0} if proto == "icmp" else {})}
    elif source.ipv6_address and target.ipv6_address:
        fields |= {"eth_type": IPV6, "ipv6_src": str(source.ipv6_address), "ipv6_dst": str(target.ipv6_address)}
        fields |= {"ip_proto": ICMPV6 if proto == "icmp" else PROTOCOLS[proto]}
        fields |= {"icmpv6_type": 128, "icmpv6_code": 0} if proto == "icmp" else {}
    if proto != "icmp" and "ip_proto" in fields:
        fields |= {f"{proto}_src": 0, f"{proto}_dst": port or 80}
    return packet(**fields, states={"new"})
