"""Reads the rules of other filters: the text of `iptables -S`, and the JSON of nft. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.gateway.verdicts import Chain, Chains, Condition, FilterRule

_OPTIONS = {"-i": "iif", "-o": "oif", "-s": "saddr", "-d": "daddr", "--ctstate": "state", "--state": "state"}
_MODULES = frozenset(("comment", "conntrack", "state"))  # matches that `_OPTIONS` and the rules below read completely
_TARGETS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_IGNORED = frozenset(("counter", "log", "comment"))  # statements of nft that decide nothing
_ENDS = {"accept": "accept", "drop": "drop", "reject": "drop", "return": "return"}
_META = {"iifname": "iif", "oifname": "oif", "iif": "iif", "oif": "oif"}


def parse_iptables(text: str) -> Chains:
    """Return the chains of a table from `iptables -S`."""
    rules: dict[str, list[FilterRule]] = {}
    policies: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        command, name, *words = shlex.split(line)
        rules.setdefault(name, [])
        if command == "-P":
            policies[name] = _TARGETS.get(words[0], "accept")
        elif command == "-A" and (rule := _iptables_rule(words)) is not None:
            rules[name].append(rule)
    return {name: Chain(tuple(of_chain), policies.get(name)) for name, of_chain in rules.items()}


def _iptables_rule(words: Sequence[str]) -> FilterRule | None:
    """Parse the words of a rule; None if it has no verdict."""
    matches: list[Condition] = []
    verdict, negated = None, False
    rest = list(words)
    while rest:
        option, *rest = rest
        if option == "!":
            negated = True
            continue
        value = rest.pop(0) if rest and not rest[0].startswith("-") and rest[0] != "!" else ""
        if option in _OPTIONS:
            matches.append(
                Condition(_OPTIONS[option], tuple(value.lower().split(",") if "state" in option else (value,)), negated)
            )
        elif option in ("-j", "-g"):
            verdict = _TARGETS.get(value) or f"{'jump' if option == '-j' else 'goto'} {value}"
            break  # what follows are options of the target
        elif not (option == "--comment" or (option == "-m" and value in _MODULES)):
            matches.append(Condition("other"))
        negated = False
    return FilterRule(tuple(matches), verdict) if verdict is not None else None


def parse_nft(objects: Iterable[Mapping[str, Any]]) -> Chains:
    """Return the chains of one table from the objects that `nft -j list table` prints."""
    rules: dict[str, list[FilterRule]] = {}
    policies: dict[str, str | None] = {}
    for item in objects:
        if (chain := item.get("chain")) is not None:
            policies[chain["name"]] = chain.get("policy")
        elif (rule := item.get("rule")) is not None:
            rules.setdefault(rule["chain"], []).extend(_nft_rules(rule["expr"]))
    return {name: Chain(tuple(rules.get(name, ())), policy) for name, policy in policies.items()}


def _nft_rules(statements: Iterable[Mapping[str, Any]]) -> Iterator[FilterRule]:
    """Yield the rules that the statements of one rule mean: one, or one for each element of its verdict map."""
    matches: list[Condition] = []
    for statement in statements:
        kind, body = next(iter(statement.items()))
        if kind == "match":
            matches.append(_nft_match(body["left"], body["right"], body["op"] == "!="))
        elif kind == "vmap":
            for value, end in _elements(body["data"]):
                if (verdict := _nft_verdict(end)) is not None:
                    yield FilterRule((*matches, _nft_match(body["key"], value, False)), verdict)
            return
        elif (verdict := _nft_verdict(statement)) is not None:
            yield FilterRule(tuple(matches), verdict)
            return
        elif kind not in _IGNORED:
            matches.append(Condition("other"))


def _elements(data: Any) -> Iterable[Any]:
    elements = data.get("set", ()) if isinstance(data, dict) else ()  # a map with a name is not read
    return [element for element in elements if isinstance(element, list) and len(element) == 2]


def _nft_verdict(statement: Mapping[str, Any]) -> str | None:
    kind, body = next(iter(statement.items()))
    if kind in ("jump", "goto"):
        return f"{kind} {body['target']}"
    return _ENDS.get(kind)


def _nft_match(left: Any, right: Any, negated: bool) -> Condition:
    field, values = _nft_field(left), _nft_values(right)
    return Condition(field, values, negated) if field is not None and values is not None else Condition("other")


def _nft_field(left: Any) -> str | None:
    if not isinstance(left, dict):
        return None
    kind, body = next(iter(left.items()))
    if kind == "meta":
        return _META.get(body.get("key"))
    if kind == "ct":
        return "state" if body.get("key") == "state" else None
    return (
        body.get("field")
        if kind == "payload" and body.get("field") in ("saddr", "daddr") and body.get("protocol") in ("ip", "ip6")
        else None
    )


def _nft_values(right: Any) -> tuple[str, ...] | None:
    """Return the values on the right side of a match; None if they are unknown."""
    if isinstance(right, str):
        return None if right.startswith("@") else (right,)
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    if isinstance(right, list):
        parts = [_nft_values(each) for each in right]
        return None if None in parts else tuple(value for part in parts for value in part or ())
    if isinstance(right, dict) and "prefix" in right:
        return (f"{right['prefix']['addr']}/{right['prefix']['len']}",)
    if isinstance(right, dict) and "range" in right:
        return ("-".join(map(str, right["range"])),)
    return None
