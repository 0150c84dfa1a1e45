"""ACL rules in FAUCET's language, with Warren's additions: `from`, `to`, `proto`, port lists and ranges, `state`,
`allow_related`, `log`. Parses text into `Rule` values; errors name the path. Pure.

    - rule:
        dl_type: 0x800
        ip_proto: 6
        tcp_dst: 443
        actions: {allow: 1}
    - rule: {from: {label: web}, to: {label: db}, proto: tcp, tcp_dst: [5432, 6000-6010], allow_related: true}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from acl import fields
from acl.actions import ActionStep, PopTag, PushTag, SetField, parse_actions
from acl.fields import FIELDS, ORDER, VLAN_PRESENT, Masked
from pipeline.protocols import IPV4, IPV6
from warren.errors import MISSING, Invalid

RULES_LIMIT = 4096  # of one ACL
COOKIE_LIMIT = 65_536
STATES = ("new", "established", "related", "invalid")
PROTOCOLS: dict[str, tuple[tuple[int, int], ...]] = {  # (eth_type, ip_proto)
    "tcp": ((IPV4, fields.TCP), (IPV6, fields.TCP)),
    "udp": ((IPV4, fields.UDP), (IPV6, fields.UDP)),
    "sctp": ((IPV4, fields.SCTP), (IPV6, fields.SCTP)),
    "icmp": ((IPV4, fields.ICMP), (IPV6, fields.ICMPV6)),
}


class FieldMatch(NamedTuple):
    """A field and the alternatives that match."""

    name: str
    alternatives: tuple[Masked, ...]


@dataclass(frozen=True, slots=True)
class Who:
    """The endpoints that `from` or `to` selects; exactly one field is set. A label is KEY or KEY=VALUE."""

    label: str | None = None
    network: str | None = None
    endpoint: str | None = None
    cidr: IPv4Network | IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It matches when one of `variants` and all of `fields` match, the packet's source is in `source`, its
    destination is in `target`, and its connection is in one of `states` (empty means any).

    Then the switch applies the meter, the log, the mirror and the steps in order. With `allow`, the packet goes on as the
    steps left it.
    """

    variants: tuple[tuple[tuple[str, int], ...], ...] = ((),)
    fields: tuple[FieldMatch, ...] = ()
    source: Who | None = None
    target: Who | None = None
    states: tuple[str, ...] = ()
    allow: bool = False
    related: bool = False
    log: bool = False
    meter: str | None = None
    mirror: str | int | None = None
    steps: tuple[ActionStep, ...] = ()
    cookie: int | None = None
    description: str = ""

    @property
    def stateful(self) -> bool:
        """Whether the network must track connections for this rule."""
        return bool(self.states or self.related or any(match.name == "ct_state" for match in self.fields))


def canonical(data: Any, path: str) -> tuple[dict[str, Any], ...]:
    """Return the rules in stored form, from any of FAUCET's three notations. Raises `Invalid`."""
    if isinstance(data, Mapping):
        for key in data:
            if key not in ("rules", "exact_match", "dot1x_assigned"):
                raise Invalid(f"{path}.{key}", data[key], "rules, exact_match or dot1x_assigned")
        data = data.get("rules")
    if not isinstance(data, list | tuple) or not data:
        raise Invalid(path, data, "a list of at least one rule")
    if len(data) > RULES_LIMIT:
        expected = f"at most {RULES_LIMIT} rules; label groups and port lists make one of many"
        raise Invalid(path, MISSING, expected, problem=f"{len(data)} rules: expected {expected}")
    return tuple(_unwrapped(item, f"{path}[{i}]") for i, item in enumerate(data))


def _unwrapped(item: Any, path: str) -> dict[str, Any]:
    if not isinstance(item, Mapping) or not item:
        raise Invalid(path, item, "a rule: a mapping of match fields and actions")
    if isinstance(item.get("rule"), Mapping):
        beside = next((key for key in item if key != "rule"), None)
        if beside is not None:
            raise Invalid(f"{path}.{beside}", item[beside], f"{beside} inside `rule:` (FAUCET ignores it there)")
        return dict(item["rule"]) or {"actions": {"allow": 0}}  # empty: it drops everything
    if "rule" in item and item["rule"] is not None:
        raise Invalid(f"{path}.rule", item["rule"], "a mapping of match fields and actions")
    if "rule" in item:  # FAUCET's third way: what stands beside a null rule is the rule
        return {key: value for key, value in item.items() if value is not None} or {"actions": {"allow": 0}}
    return dict(item)


def parse_rule(data: Mapping[str, Any], path: str) -> Rule:
    """Parse one rule. Raises `Invalid`."""
    matched: dict[str, FieldMatch] = {}
    key_of: dict[str, str] = {}
    for key, value in data.items():
        if key in _WORDS:
            continue
        where = f"{path}.{key}"
        if not isinstance(key, str):
            raise Invalid(where, key, "a match field or a word of a rule")
        spec = fields.field(key, where)
        if spec.name in key_of:
            raise Invalid(where, value, f"{spec.name} once (it is also said as {key_of[spec.name]})")
        key_of[spec.name] = key
        matched[spec.name] = FieldMatch(spec.name, fields.parse(spec, value, where))
    matched.pop("in_port", None)  # FAUCET puts the port that the list belongs to in its place
    source, target = (_who(data[word], f"{path}.{word}") if word in data else None for word in ("from", "to"))
    for word, end in (("from", "src"), ("to", "dst")):
        for name in (f"ipv4_{end}", f"ipv6_{end}"):
            if word in data and name in matched:
                raise Invalid(
                    f"{path}.{key_of[name]}",
                    MISSING,
                    "one of the two",
                    problem=f"it cannot stand beside {word}: say one of the two",
                )
    variants = _variants(data, matched, source, target, path)
    for match in matched.values():
        _prerequisites(match.name, matched, variants, f"{path}.{match.name}")
    states = _states(data.get("state"), f"{path}.state")
    if states and "ct_state" in matched:
        raise Invalid(f"{path}.ct_state", MISSING, "one of the two", problem="it cannot stand beside state: say one of the two")
    related = _flag(data, "allow_related", path)
    done = parse_actions(data, related, f"{path}.actions")
    _applicable(done["steps"], matched, variants, f"{path}.actions.output")
    rest = {"source": source, "target": target, "states": states, "related": related, "log": _flag(data, "log", path)}
    return Rule(
        variants=variants,
        fields=tuple(sorted(matched.values(), key=lambda m: ORDER[m.name])),
        cookie=_cookie(data.get("cookie"), f"{path}.cookie"),
        description=_description(data.get("description", ""), f"{path}.description"),
        **rest,  # type: ignore[arg-type]
        **done,
    )


_WORDS = {"actions", "cookie", "description", "from", "to", "proto", "state", "allow_related", "log"}

# ---- matching -------------------------------------------------------------------------------------------------------


def _who(data: Any, path: str) -> Who:
    expected = "one of label: KEY or KEY=VALUE, endpoint: NAME, network: NAME, cidr: RANGE"
    if not isinstance(data, Mapping) or len(data) != 1:
        raise Invalid(path, data, expected)
    ((kind, value),) = data.items()
    if kind not in ("label", "endpoint", "network", "cidr") or not isinstance(value, str) or not value:
        raise Invalid(f"{path}.{kind}", value, expected)
    if kind == "cidr":
        try:
            if "%" in value:
                raise ValueError("it has a scope")
            return Who(cidr=ip_network(value))
        except ValueError as error:
            raise Invalid(f"{path}.cidr", value, f"an IPv4 or IPv6 range without host bits ({error})") from None
    return Who(**{kind: value})  # type: ignore[arg-type]


def _variants(
    data: Mapping[str, Any], matched: Mapping[str, FieldMatch], source: Who | None, target: Who | None, path: str
) -> tuple[tuple[tuple[str, int], ...], ...]:
    proto = data.get("proto")
    if proto is not None:
        for name in ("eth_type", "ip_proto"):
            if name in matched:
                raise Invalid(
                    f"{path}.{name}", MISSING, "one of the two", problem="it cannot stand beside proto: say one of the two"
                )
        if proto not in (*PROTOCOLS, "ip"):
            raise Invalid(f"{path}.proto", proto, f"one of {', '.join(PROTOCOLS)}, ip")
    families = _families(matched, source, target, path)
    variants: tuple[tuple[tuple[str, int], ...], ...]
    if proto in PROTOCOLS:
        variants = tuple((("eth_type", e), ("ip_proto", p)) for e, p in PROTOCOLS[proto] if e in families)
    elif proto == "ip" or ((source or target) and "eth_type" not in matched):
        variants = tuple((("eth_type", family),) for family in (IPV4, IPV6) if family in families)
    else:
        return ((),)
    if not variants:
        expected = "addresses of one family"
        raise Invalid(path, MISSING, expected, problem=f"from, to and the fields need {expected}")
    return variants


def _families(matched: Mapping[str, FieldMatch], source: Who | None, target: Who | None, path: str) -> set[int]:
    """Return the address families that the rule can match."""
    families = {IPV4, IPV6}
    for who in (source, target):
        if who is not None and who.cidr is not None:
            families &= {IPV4 if who.cidr.version == 4 else IPV6}
    for name in matched:
        for needed, values in FIELDS[name].needs:
            if needed == "eth_type":
                families &= set(values)
    if (source or target) and "eth_type" in matched:
        eth_type = matched["eth_type"].alternatives[0][0]
        if eth_type not in families:
            raise Invalid(f"{path}.eth_type", hex(eth_type), "0x0800 or 0x86dd, that of the addresses of from and to")
    return families


def _prerequisites(name: str, matched: Mapping[str, FieldMatch], variants: tuple[Any, ...], path: str) -> None:
    """Return the prerequisites of a field that is matched or set. Raises `Invalid` with `path`."""
    for needed, values in FIELDS[name].needs:
        if needed == "vlan_vid":
            if not _tagged(matched):
                expected = f"{name} together with vlan_vid (any tag: vlan_vid: '0x1000/0x1000')"
                raise Invalid(path, MISSING, expected, problem=f"it cannot stand alone: expected {expected}")
            continue
        matched_values = [dict(variant).get(needed) for variant in variants if dict(variant).get(needed) is not None]
        if needed in matched:
            matched_values = [value for value, mask in matched[needed].alternatives if mask is None]
        if not matched_values or not all(value in values for value in matched_values):
            right = " or ".join(hex(value) if needed == "eth_type" else str(value) for value in values)
            expected = f"{name} together with {needed}: {right} (a switch refuses it otherwise)"
            raise Invalid(path, MISSING, expected, problem=f"it cannot stand alone: expected {expected}")


def _tagged(matched: Mapping[str, FieldMatch]) -> bool:
    """Whether the rule matches only packets with a VLAN tag."""
    want, mask = matched["vlan_vid"].alternatives[0] if "vlan_vid" in matched else (0, None)
    return bool(want & (VLAN_PRESENT if mask is None else VLAN_PRESENT & mask))


def _applicable(steps: tuple[ActionStep, ...], matched: Mapping[str, FieldMatch], variants: tuple[Any, ...], path: str) -> None:
    """Check that the actions suit every packet that matches, because a switch refuses others: the packet must have the field
    and the tag. Raises `Invalid`."""
    tags = int(_tagged(matched))
    for step in steps:
        match step:
            case PushTag():
                tags += 1
                if tags > 2:
                    raise Invalid(
                        path, MISSING, "at most two VLAN tags", problem="a third VLAN tag: Open vSwitch keeps at most two"
                    )
            case PopTag():
                if not tags:
                    expected = f"a match of vlan_vid for each tag that it removes ({_ANY_TAG})"
                    raise Invalid(path, MISSING, expected, problem=f"pop_vlans needs {expected}")
                tags -= 1
            case SetField("vlan_vid" | "vlan_pcp"):
                if not tags:
                    raise Invalid(path, step.name, f"a match of vlan_vid, or a tag put on before ({_ANY_TAG})")
            case SetField():
                _prerequisites(step.name, matched, variants, f"{path}.set_fields.{step.name}")


_ANY_TAG = "any tag: vlan_vid: '0x1000/0x1000'"


def _states(data: Any, path: str) -> tuple[str, ...]:
    if data is None:
        return ()
    items = [data] if isinstance(data, str) else data
    if not isinstance(items, list | tuple) or not items or any(item not in STATES for item in items):
        raise Invalid(path, data, f"a list of {', '.join(STATES)}")
    return tuple(state for state in STATES if state in items)


def _flag(data: Mapping[str, Any], word: str, path: str) -> bool:
    value = data.get(word, False)
    if value not in (True, False, 0, 1):
        raise Invalid(f"{path}.{word}", value, "true or false")
    return bool(value)


def _cookie(value: Any, path: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COOKIE_LIMIT):
        raise Invalid(path, value, f"a number from 0 to {COOKIE_LIMIT}")
    return value  # type: ignore[no-any-return]


def _description(value: Any, path: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 255:
        raise Invalid(path, value, "text of at most 255 characters")
    return value
