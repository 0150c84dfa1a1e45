"""Reports other packet filters of the host that drop packets from or to the gateways, and accepts these packets in Docker's chain
DOCKER-USER."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.feature import Feature
from agent.gateway.firewall_rules import parse_iptables, parse_nft
from agent.gateway.rules import TABLE, Outside
from agent.gateway.verdicts import Chains, Packet, dropped, reverse
from agent.linux import host_routes, iptables, nft
from agent.linux.bridges import BridgeReader
from ovsdb.rows import UPLINK_PORT
from warren.errors import Unavailable
from warren.worker import Worker

INTERVAL_S = 5.0
DOCKER_USER, FORWARD = "DOCKER-USER", "FORWARD"
MARK = "warren"  # the comment of Warren's rules
ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}  # stands for any address outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A base chain in the forward hook, and the chains of its table. `program` is the variant of iptables that owns it;
    None: nft."""

    version: int
    family: str
    table: str
    chain: str
    chains: Chains
    program: str | None = None


def packets(needed: Outside, version: int, interfaces: Sequence[str], incoming: bool) -> Iterator[list[Packet]]:
    """Yield groups of packets of Warren's networks that must pass, in one direction; those of a group differ in the interface
    to the outside. Connections from outside begin only where ports are published or networks are routed."""
    begins = not incoming or bool(needed.published or needed.routed)
    for address in (prefix.partition("/")[0] for prefix in needed.routes if (":" in prefix) == (version == 6)):
        for state in ("established", *(("new",) if begins else ())):
            outgoing = [
                Packet(iif=UPLINK_PORT, oif=name, saddr=address, daddr=ELSEWHERE[version], state=state) for name in interfaces
            ]
            yield [reverse(packet) for packet in outgoing] if incoming else outgoing


def problem(rules: Filter, needed: Outside, interfaces: Sequence[str]) -> str | None:
    """Return the line for `warren status` if a filter drops packets of Warren's networks."""
    directions = [
        incoming
        for incoming in (False, True)
        if any(dropped(rules.chains, rules.chain, group) for group in packets(needed, rules.version, interfaces, incoming))
    ]
    if not directions:
        return None
    words = " and ".join("to" if incoming else "from" for incoming in directions)
    owner = f" ({rules.program})" if rules.program else ""
    where = f"chain {rules.chain} of table {rules.family} {rules.table}{owner}"
    return f"{where} drops packets {words} {UPLINK_PORT}; to let them pass: {'; '.join(_remedies(rules, directions))}"


def _remedies(rules: Filter, directions: Sequence[bool]) -> Iterator[str]:
    if rules.table == "firewalld":
        yield f"firewall-cmd --permanent --zone=trusted --add-interface={UPLINK_PORT}; firewall-cmd --reload"
        return
    ufw = any(name.startswith(("ufw-", "ufw6-")) for name in rules.chains)
    for incoming in directions:
        if ufw:
            yield f"ufw route allow {'out' if incoming else 'in'} on {UPLINK_PORT}"
        elif rules.program:
            chain = DOCKER_USER if DOCKER_USER in rules.chains else rules.chain
            yield f"{rules.program} -I {chain} {'-o' if incoming else '-i'} {UPLINK_PORT} -j ACCEPT"
        else:
            interface = "oifname" if incoming else "iifname"
            yield f"nft insert rule {rules.family} {rules.table} {rules.chain} {interface} {UPLINK_PORT} accept"


def accepting(bridges: Sequence[str]) -> list[list[str]]:
    """Return the rules for Docker's chain. Packets to containers of Docker's own bridges return, so that Docker decides about them."""
    ours = ["-m", "comment", "--comment", MARK, "-j"]
    returning = [["-i", UPLINK_PORT, "-o", bridge, *ours, "RETURN"] for bridge in bridges]
    return [*returning, ["-i", UPLINK_PORT, *ours, "ACCEPT"], ["-o", UPLINK_PORT, *ours, "ACCEPT"]]


def changes(text: str, desired: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the commands that make Warren's rules in Docker's chain the desired ones: behind the rules of users, and before a rule that ends
    the chain. `text` is the output of `iptables -S`."""
    if f"-N {DOCKER_USER}" not in text.splitlines():
        return []
    rules = [words[2:] for line in text.splitlines() if (words := shlex.split(line))[:2] == ["-A", DOCKER_USER]]
    ours = [rule for rule in rules if MARK in rule and rule[rule.index(MARK) - 1] == "--comment"]
    end = rules.index(["-j", "RETURN"]) if ["-j", "RETURN"] in rules else len(rules)
    if ours == [list(rule) for rule in desired] and all(rule in rules[:end] for rule in ours):
        return []
    position = sum(1 for rule in rules[:end] if rule not in ours) + 1
    deleted = [["-D", DOCKER_USER, *rule] for rule in ours]
    return deleted + [["-I", DOCKER_USER, str(position + i), *rule] for i, rule in enumerate(desired)]


class Firewalls(Feature):
    """Reads the other filters every five seconds. `needed` returns what the host needs; with `docker_user`, Docker's chain has
    Warren's accept as long as a network needs it."""

    def __init__(self, needed: Callable[[], Outside | None], *, docker_user: bool, on_change: Callable[[], None]) -> None:
        self._needed, self._docker_user, self._on_change = needed, docker_user, on_change
        self._bridges = BridgeReader()
        self._problems: list[str] = []
        self._worker = Worker("firewalls", self._step, interval_s=INTERVAL_S, on_change=on_change)

    def workers(self) -> Sequence[Worker]:
        """Return the worker that reads the filters."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return which filters drop packets of Warren's networks."""
        return self._problems

    def _step(self, items: frozenset[str]) -> None:
        needed = self._needed()
        if needed is None:
            return
        for version in (4, 6):
            for program, text in _iptables(version):
                desired = accepting(self._bridges.read().internal) if self._docker_user and version in needed.versions else []
                for command in changes(text, desired):
                    iptables.run(program, *command)
        problems: list[str] = []
        if needed.active:
            outer = self._interfaces()
            lines = (problem(rules, needed, outer) for version in needed.versions for rules in filters(version))
            problems = sorted({line for line in lines if line is not None})
        if problems != self._problems:
            self._problems = problems
            self._on_change()

    def _interfaces(self) -> list[str]:
        """Return the interfaces over which the host reaches others."""
        internal = {"lo", UPLINK_PORT, *self._bridges.read().internal}
        return [name for name in host_routes.with_addresses() if name not in internal] or ["outside"]


def _iptables(version: int) -> list[tuple[str, str]]:
    """Return the variants of iptables whose table `filter` exists, each with the output of `-S`."""
    family = "ip" if version == 4 else "ip6"
    tables = {(item["table"]["family"], item["table"]["name"]) for item in nft.objects("list", "tables") if "table" in item}
    programs = [iptables.over_nft(version) if (family, "filter") in tables else None, iptables.legacy(version)]
    listings = []
    for program in programs:
        with contextlib.suppress(Unavailable):  # a table that somebody has made with nft, and iptables cannot read
            listings += [(program, iptables.run(program, "-S"))] if program is not None else []
    return listings


def filters(version: int) -> Iterator[Filter]:
    """Yield the base chains in the forward hook that other programs have made, for a version of IP."""
    family = "ip" if version == 4 else "ip6"
    tables = _iptables(version)
    for program, text in tables:
        chains = parse_iptables(text)
        if FORWARD in chains:
            yield Filter(version=version, family=family, table="filter", chain=FORWARD, chains=chains, program=program)
    read = {(family, "filter")} if any(not program.endswith("-legacy") for program, _ in tables) else set()
    for item in nft.objects("list", "chains"):
        chain = item.get("chain", {})
        if chain.get("hook") != "forward" or chain["family"] not in (family, "inet"):
            continue
        if (chain["family"], chain["table"]) not in read | {("inet", TABLE)}:
            chains = parse_nft(nft.objects("list", "table", chain["family"], chain["table"]))
            yield Filter(version=version, family=chain["family"], table=chain["table"], chain=chain["name"], chains=chains)
