"""The firewall's settings in a real etcd: an allow list is a proposal until somebody confirms it."""

from __future__ import annotations

import pytest

from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid

LISTED = {"mode": "allowlist", "sources": ["203.0.113.0/24"]}


def test_an_allow_list_is_proposed_confirmed_and_ended(store: Store) -> None:
    specs = Repository(store)
    assert specs.firewall().mode == "guard"
    first, _ = specs.put_firewall(LISTED)
    assert first.proposal is not None
    assert (first.mode, first.proposal.confirm_within_s) == ("guard", 60)
    second, _ = specs.put_firewall({**LISTED, "confirm_within_s": 5})
    assert second.proposal is not None
    assert second.proposal.id != first.proposal.id
    specs.drop_proposal(first.proposal.id)
    assert specs.firewall() == second, "an agent that is late forgets no newer proposal"
    confirmed, _ = specs.confirm_firewall()
    assert (confirmed.mode, confirmed.proposal) == ("allowlist", None)
    assert specs.put_firewall(LISTED)[0].proposal is None, "it holds already"
    specs.drop_proposal(second.proposal.id)
    assert specs.firewall().mode == "allowlist"
    for mode in ("off", "guard"):
        specs.put_firewall(LISTED | {"sources": ["203.0.113.1/32"]})
        ended, _ = specs.put_firewall({"mode": mode})
        assert (ended.mode, ended.sources, ended.proposal) == (mode, (), None)


def test_nothing_is_confirmed_that_was_dropped_or_never_proposed(store: Store) -> None:
    specs = Repository(store)
    with pytest.raises(Conflict, match="nothing to confirm"):
        specs.confirm_firewall()
    proposal = specs.put_firewall(LISTED)[0].proposal
    assert proposal is not None
    specs.drop_proposal(proposal.id)
    with pytest.raises(Conflict, match="nothing to confirm"):
        specs.confirm_firewall()
    for wrong in ({"mode": "allowlist"}, {**LISTED, "confirm_within_s": 0}, {**LISTED, "sources": ["x"]}):
        with pytest.raises(Invalid):
            specs.put_firewall(wrong)
    assert specs.firewall().proposal is None
