"""Other filters of the host: which packets of Warren's networks they drop, and what Docker's chain for users gets."""

from __future__ import annotations

from typing import Any

import pytest

from agent.gateway.firewall_rules import parse_iptables, parse_nft
from agent.gateway.firewalls import Filter, accepting, changes, problem
from agent.gateway.rules import Outside, Published
from agent.gateway.verdicts import Chains, Packet, verdict
from specs.model.cluster import transit

ZONES4, ZONES6 = transit().zones4, transit().zones6
NAT = Outside(versions=(4, 6), routes=(str(ZONES4), str(ZONES6)))
WITH_PORT = Outside(versions=(4,), routes=(str(ZONES4),), published=(Published("tcp", 80, None, ZONES4[7]),))
ROUTED = Outside(versions=(4,), routes=("10.9.0.0/24",), routed=("10.9.0.0/24",))
REPLIES = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
DROP = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"
# as Docker 28 prints it, shortened
DOCKER = f"""{DROP}-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
"""


def status_line(text: str, needed: Outside = NAT, program: str = "iptables-nft") -> str:
    """The line for the status; "" for none."""
    chains = parse_iptables(text)
    rules = Filter(version=4, family="ip", table="filter", chain="FORWARD", chains=chains, program=program)
    return problem(rules, needed, ("eth0", "mgmt0")) or ""


def test_a_policy_that_drops_is_told_with_the_command_that_helps() -> None:
    assert status_line(DROP) == (
        "chain FORWARD of table ip filter (iptables-nft) drops packets from and to warren-gw; to let them pass: "
        "iptables-nft -I FORWARD -i warren-gw -j ACCEPT; iptables-nft -I FORWARD -o warren-gw -j ACCEPT"
    )
    assert "iptables-legacy -I FORWARD -i warren-gw" in status_line(DROP, program="iptables-legacy")
    assert "iptables-nft -I DOCKER-USER -i warren-gw -j ACCEPT" in status_line(DOCKER)
    assert "ufw route allow in on warren-gw; ufw route allow out on warren-gw" in status_line(DROP + "-N ufw-before-forward\n")
    assert status_line("-P FORWARD ACCEPT\n") == ""


@pytest.mark.parametrize(
    ("rules", "needed", "words"),
    [
        (REPLIES, NAT, "from"),
        (REPLIES + "-A FORWARD -i warren-gw -j ACCEPT", NAT, ""),
        (REPLIES + "-A FORWARD -i warren-gw -j ACCEPT", WITH_PORT, "to"),
        (REPLIES + "-A FORWARD -i warren-gw -j ACCEPT", ROUTED, "to"),
        (REPLIES + "-A FORWARD -i warren+ -j ACCEPT\n-A FORWARD -o warren-gw -j ACCEPT", WITH_PORT, ""),
        ("-A FORWARD -i warren-gw -j ACCEPT", NAT, "to"),
        (REPLIES + "-A FORWARD -s 100.64.0.0/10 -j ACCEPT", NAT, ""),
        (REPLIES + "-A FORWARD -s 10.0.0.0/8 -j ACCEPT", NAT, "from"),
        (REPLIES + "-A FORWARD -s 10.0.0.0/8 -j ACCEPT\n-A FORWARD -d 10.9.0.0/24 -j ACCEPT", ROUTED, ""),
        (REPLIES + "-A FORWARD ! -i eth0 -o eth0 -j ACCEPT", NAT, ""),
        (REPLIES + "-A FORWARD -i eth1 -j ACCEPT", NAT, "from"),
        ("-A FORWARD -p tcp -m tcp --dport 80 -j DROP\n-A FORWARD -j ACCEPT", NAT, ""),
        ("-A FORWARD -m mark --mark 0x1 -j ACCEPT", NAT, ""),
        ("-A FORWARD -m mark --mark 0x1 -j ELSE\n-A ELSE -i docker0 -j ACCEPT", NAT, "from and to"),
        ("-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n-A FORWARD -j ACCEPT", NAT, "from and to"),
        ("-A FORWARD -j A\n-A FORWARD -j ACCEPT\n-A A -j B\n-A B -i warren-gw -j RETURN\n-A B -j DROP", NAT, "to"),
        ("-A FORWARD -g A\n-A FORWARD -j ACCEPT\n-A A -i x -j DROP", NAT, "from and to"),
        ("-A FORWARD -j A\n-A A -j A", NAT, "from and to"),
        ("-A FORWARD -m comment --comment \"a b\" -j ACCEPT", NAT, ""),
    ],
)  # fmt: skip
def test_what_a_filter_drops_follows_from_its_rules(rules: str, needed: Outside, words: str) -> None:
    line = status_line(DROP + rules + "\n", needed)
    assert (f"drops packets {words} warren-gw" in line) if words else line == ""


def chains(*rules: list[Any], policy: str = "drop", **others: list[Any]) -> Chains:
    """The chains of a table of nft: `f` with these rules, and others."""
    objects: list[Any] = [{"chain": {"name": "f", "policy": policy, "hook": "forward"}}]
    objects += [{"chain": {"name": name}} for name in others]
    objects += [{"rule": {"chain": "f", "expr": expr}} for expr in rules]
    return parse_nft(objects + [{"rule": {"chain": name, "expr": others[name]}} for name in others])


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


IIF, OIF, STATE = {"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}, {"ct": {"key": "state"}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
ACCEPT: dict[str, Any] = {"accept": None}
VMAP = {"vmap": {"key": STATE, "data": {"set": [["invalid", {"drop": None}], ["established", ACCEPT]]}}}


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ([], "drop"),
        ([[match(IIF, "warren-gw"), {"counter": {"packets": 1}}, ACCEPT]], "accept"),
        ([[match(IIF, "warren-gw", "!="), ACCEPT]], "drop"),
        ([[match(IIF, {"set": ["eth0", "warren*"]}), ACCEPT]], "accept"),
        ([[match(SADDR, {"prefix": {"addr": "100.64.0.0", "len": 10}}), ACCEPT]], "accept"),
        ([[match(SADDR, {"set": [{"range": ["100.127.0.1", "100.127.0.9"]}]}), ACCEPT]], "accept"),
        ([[match(SADDR, {"set": [{"range": ["100.127.1.0", "100.127.1.9"]}]}), ACCEPT]], "drop"),
        ([[match(SADDR, "@known"), ACCEPT]], "accept"),
        ([[match(STATE, ["established", "related"], "in"), ACCEPT]], "drop"),
        ([[VMAP]], "drop"),
        ([[VMAP], [{"jump": {"target": "user"}}]], "accept"),
        ([[match(IIF, "warren-gw"), {"reject": {"type": "icmpx"}}], [ACCEPT]], "drop"),
        ([[{"limit": {"rate": 1}}, {"drop": None}], [ACCEPT]], "accept"),
        ([[{"log": None}, {"drop": None}], [ACCEPT]], "drop"),
    ],
)  # fmt: skip
def test_rules_of_nft_are_read_as_those_of_iptables(rules: list[Any], outcome: str) -> None:
    packet = Packet(iif="warren-gw", oif="eth0", saddr="100.127.0.7", daddr="192.0.2.1", state="new")
    assert verdict(chains(*rules, user=[match(OIF, "eth0"), ACCEPT]), "f", packet) == outcome


def test_a_table_of_nft_is_named_with_its_own_command() -> None:
    rules = Filter(version=4, family="inet", table="fw", chain="f", chains=chains([VMAP]))
    assert problem(rules, NAT, ("eth0",)) == (
        "chain f of table inet fw drops packets from warren-gw; to let them pass: nft insert rule inet fw f iifname warren-gw accept"
    )
    firewalld = Filter(version=4, family="inet", table="firewalld", chain="f", chains=chains())
    assert "firewall-cmd --permanent --zone=trusted --add-interface=warren-gw" in str(problem(firewalld, NAT, ("eth0",)))


# ---- DOCKER-USER ----------------------------------------------------------------------------------------------------


def applied(text: str, commands: list[list[str]]) -> list[str]:
    """The rules of DOCKER-USER after the commands, as text."""
    rules = [line.removeprefix("-A DOCKER-USER ") for line in text.splitlines() if line.startswith("-A DOCKER-USER ")]
    for command in commands:
        if command[0] == "-D":
            rules.remove(" ".join(command[2:]))
        else:
            rules.insert(int(command[2]) - 1, " ".join(command[3:]))
    return rules


OWN = ["-i warren-gw -m comment --comment warren -j ACCEPT", "-o warren-gw -m comment --comment warren -j ACCEPT"]
USERS = "-s 192.0.2.66/32 -j DROP"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], OWN),
        ([USERS], [USERS, *OWN]),
        ([USERS, "-j RETURN"], [USERS, *OWN, "-j RETURN"]),
        (["-j RETURN", *OWN], [*OWN, "-j RETURN"]),
        ([OWN[1], USERS, OWN[0]], [USERS, *OWN]),
        ([OWN[0]], OWN),
        (["-i warren-gw -o docker9 -m comment --comment warren -j RETURN", *OWN, USERS], [USERS, *OWN]),
    ],
)
def test_warrens_rules_stand_behind_those_of_users_and_before_the_end(before: list[str], after: list[str]) -> None:
    text = DOCKER + "".join(f"-A DOCKER-USER {rule}\n" for rule in before)
    assert applied(text, changes(text, accepting(()))) == after
    settled = DOCKER + "".join(f"-A DOCKER-USER {rule}\n" for rule in after)
    assert changes(settled, accepting(())) == []
    assert applied(settled, changes(settled, [])) == [rule for rule in after if rule not in OWN]
    assert status_line(settled, WITH_PORT) == ""


def test_docker_decides_what_goes_on_to_its_own_containers() -> None:
    text = DOCKER + "".join(f"-A DOCKER-USER {rule}\n" for rule in applied(DOCKER, changes(DOCKER, accepting(("docker0",)))))
    packet = Packet(iif="warren-gw", oif="docker0", saddr="100.127.0.7", daddr="172.17.0.2", state="new")
    assert verdict(parse_iptables(text), "FORWARD", packet) == "drop"


def test_nothing_is_put_where_docker_has_no_chain() -> None:
    assert changes(DROP, accepting(())) == []
