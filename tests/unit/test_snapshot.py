"""What the snapshot makes of records that cannot be read."""

from __future__ import annotations

import pytest

from specs.snapshot import Snapshot, put
from specs.store import keys
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
