"""The snapshot: unreadable records, and two keys for one id."""

from __future__ import annotations

import pytest

from specs import keys
from specs.checks import ZONES, zones
from specs.snapshot import Snapshot, put, snapshot
from tests.unit import worlds

POLICIES = (worlds.acl("web", [{"actions": {"allow": 1}}]), worlds.meter("slow", 100), worlds.tenant(("web",)))


@pytest.mark.parametrize("entry", POLICIES, ids=lambda entry: entry[0])
def test_the_last_readable_policy_stays_in_force(entry: tuple[str, str]) -> None:
    key, good = entry
    state = Snapshot()
    held = getattr(state, f"{key.split('/')[1]}")
    put(state, key, good, 1)
    before = dict(held)
    decoded = put(state, key, "{", 1)
    assert held == before
    assert before
    assert decoded is not None
    assert decoded.record in held.values()
    assert "stays in force" in state.malformed[key]
    put(state, key, "7", 1)
    assert held == before
    put(state, key, None, 0)
    assert (held, state.malformed) == ({}, {})
    put(state, key, "{", 2)
    assert held == {}, "what was deleted does not come back"


def test_any_other_record_that_cannot_be_read_is_absent() -> None:
    state = Snapshot()
    key, good = worlds.network("amber", 7)
    put(state, key, good, 1)
    put(state, key, "{", 1)
    assert state.networks == {}
    assert list(state.malformed) == [keys.network("amber")]


@pytest.mark.parametrize("later_first", [False, True], ids=["in order", "the later key read first"])
def test_of_two_keys_for_one_id_the_first_created_wins(later_first: bool) -> None:
    """An endpoint under two networks: the key that etcd created first counts, in whatever order a host reads them."""
    first, second = worlds.endpoint("e1", "blue", "h1", 3, 2), worlds.endpoint("e1", "amber", "h1", 4, 3)
    entries = [(*first, 5), (*second, 9)]
    state = snapshot(reversed(entries) if later_first else entries)
    assert state.endpoints["e1"].network_id == "blue"
    assert state.born["endpoint/e1"] == 5
    assert list(state.malformed) == [second[0]]
    put(state, first[0], None, 0)
    assert state.endpoints["e1"].network_id == "amber", "the other key takes over"
    assert state.malformed == {}


def test_zone_0_is_given_to_no_network() -> None:
    """0 is the datapath's default zone. VNIs whose low 16 bits are all ones or all zeros, and collisions at the highest zone, wrap round to 1."""
    vnis = (ZONES, ZONES + 1, 2 * ZONES, 2 * 65_536, 3 * ZONES)
    state = snapshot((*worlds.network(f"n{vni}", vni, v4=False, v6=False), born) for born, vni in enumerate(vnis))
    given = zones(state, list(state.networks))
    assert given[f"n{ZONES}"] == ZONES
    assert len(set(given.values())) == len(vnis)
    assert all(0 < zone <= ZONES for zone in given.values()), given
