"""The firewall: what its settings may be, how long an allow list is on trial, and what the rules say."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from agent.encryption.allowlist import AllowList, ruleset
from agent.encryption.trial import Trial
from agent.linux.nft import by_version
from specs.model.base import decode
from specs.model.firewall import Firewall, FirewallSettings, peers
from specs.model.host import Host
from warren.errors import Invalid

LISTED = {"mode": "allowlist", "sources": ["203.0.113.0/24"]}


def firewall(proposal: str | None = None, within_s: int = 60, **fields: Any) -> Firewall:
    proposed = {"id": proposal, "confirm_within_s": within_s, **LISTED} if proposal else None
    return decode(Firewall, {**fields, "proposal": proposed}, "firewall")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mode": "closed"}, "firewall.mode"),
        ({"mode": "allowlist"}, "firewall"),
        ({"mode": "allowlist", "sources": []}, "firewall"),
        ({"mode": "guard", "sources": ["203.0.113.0/24"]}, "firewall"),
        ({"mode": "allowlist", "sources": ["203.0.113.1/24"]}, "firewall.sources[0]"),
        ({"mode": "allowlist", "sources": ["203.0.113.0/24", "everybody"]}, "firewall.sources[1]"),
        ({"mode": "allowlist", "sources": ["0.0.0.0/0"]}, "firewall.sources[0]"),
        ({"mode": "allowlist", "sources": ["::/0"]}, "firewall.sources[0]"),
        ({"mode": "allowlist", "sources": ["224.0.0.0/8"]}, "firewall.sources[0]"),
        ({"mode": "allowlist", "sources": [1]}, "firewall.sources[0]"),
        ({"name": "other"}, "firewall.name"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as error:
        decode(Firewall, fields, "firewall")
    assert error.value.path == path


def test_a_single_address_and_both_versions_are_sources() -> None:
    settings = decode(Firewall, {"mode": "allowlist", "sources": ["203.0.113.9", "2001:db8::/48"]}, "firewall").settings
    assert dict(by_version(settings.sources)) == {4: ["203.0.113.9/32"], 6: ["2001:db8::/48"]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_proposal_is_tried_for_as_long_as_it_says_and_no_longer() -> None:
    clock = Clock()
    trial = Trial(clock)
    assert trial.settings(firewall()) == FirewallSettings()
    tried = firewall("p1", 60)
    assert trial.settings(tried) == tried.proposed
    clock.now = 59.0
    assert (trial.settings(tried), trial.left_s(tried)) == (tried.proposed, 1.0)
    clock.now = 60.0
    assert (trial.settings(tried), trial.left_s(tried)) == (FirewallSettings(), 0.0)
    clock.now = 100.0
    assert trial.settings(tried) == FirewallSettings(), "not again, while etcd still has it"
    assert trial.settings(firewall("p2", 5)) == tried.proposed, "another proposal has a time of its own"
    assert trial.settings(firewall()) == FirewallSettings()


def test_what_a_process_finds_at_its_start_is_not_tried_and_what_is_confirmed_holds() -> None:
    trial, confirmed = Trial(Clock()), firewall("p1", **LISTED)
    assert trial.settings(firewall("p1")) == FirewallSettings()
    assert trial.settings(firewall("p1")) == FirewallSettings()
    assert Trial(Clock()).settings(confirmed).mode == "allowlist"
    assert trial.settings(firewall(**LISTED)).mode == "allowlist"


def test_hosts_are_let_in_by_all_addresses_that_they_send_from() -> None:
    hosts = [
        decode(Host, {"name": "h1", "vtep": "192.0.2.1", "outside": {"address": "198.51.100.1"}}, "host"),
        decode(Host, {"name": "h2", "vtep": "192.0.2.2", "outside": {"address": "10.0.0.2", "public": "198.51.100.2"}}, "host"),
        decode(Host, {"name": "h3", "vtep": "2001:db8::3"}, "host"),
    ]
    assert set(map(str, peers("h1", hosts))) == {"192.0.2.2", "10.0.0.2", "198.51.100.2", "2001:db8::3"}


def test_the_rules_let_in_replies_peers_and_sources_in_one_transaction_and_count_the_rest() -> None:
    sources = (ip_network("203.0.113.0/24"), ip_network("203.0.113.128/25"), ip_network("2001:db8::/48"))
    text = ruleset(AllowList(interface="out0", peers=frozenset({ip_address("192.0.2.2")}), sources=sources))
    lines = [line.strip() for line in text.splitlines()]
    assert 'add element inet warren-firewall interfaces { "out0" }' in lines
    assert "ip saddr { 203.0.113.0/24 } accept" in lines, "nft refuses a set whose ranges overlap"
    assert "ip6 saddr { 2001:db8::/48 } accept" in lines
    order = [lines.index(each) for each in ("ct state established ct direction reply accept", "ip saddr { 192.0.2.2/32 } accept",
                                            "counter name refused drop")]  # fmt: skip
    assert order == sorted(order)
    assert lines[-3] == "counter name refused drop"
    on_trial = ruleset(AllowList(interface="out0", sources=sources, trial_s=60))
    assert '"out0" timeout 60s' in on_trial
