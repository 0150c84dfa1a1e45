"""The first created endpoint has a value; a change concerns few endpoints, however many claim the same."""

from __future__ import annotations

import json

from intent.incremental.claims import Claims
from specs.snapshot import Snapshot, put
from tests.unit import worlds

MANY = 200


def many_on_one_port(host: str) -> Claims:
    """Endpoints of 200 networks of host h2 that claim one OpenFlow port, as `host` sees them."""
    state = Snapshot()
    claims = Claims(host, state)
    for number in range(MANY):
        put(state, *worlds.endpoint(f"e{number:03}", f"net{number}", "h2", 5, 7), number + 1)
    for endpoint_id, endpoint in state.endpoints.items():
        claims.add(endpoint_id, endpoint)
    claims.resolve()
    return claims


def change(claims: Claims, endpoint_id: str) -> set[str]:
    """What is concerned when the record of an endpoint changes, but for its values."""
    endpoint = claims.endpoints[endpoint_id]
    claims.remove(endpoint_id)
    claims.add(endpoint_id, endpoint)
    return claims.resolve()


def test_the_first_created_has_the_port_and_the_others_say_who() -> None:
    claims = many_on_one_port("h2")
    assert claims.winners == {"e000"}
    assert dict(claims.problems()) == {f"e{n:03}": "7 belongs to endpoint e000" for n in range(1, MANY)}


def test_a_change_concerns_itself_alone_unless_a_value_changes_hands() -> None:
    claims = many_on_one_port("h2")
    for endpoint_id in ("e000", "e001", "e199"):
        assert change(claims, endpoint_id) == {endpoint_id}
    claims.remove("e000")
    assert claims.resolve() == {f"e{n:03}" for n in range(1, MANY)}  # this host's, whose reason is another now
    assert claims.winners == {"e001"}
    assert claims.problem_of("e002") == "7 belongs to endpoint e001"


def test_the_ports_of_another_host_are_its_own_affair() -> None:
    claims = many_on_one_port("h1")
    assert len(claims.winners) == MANY
    claims.remove("e000")
    assert claims.resolve() == set()


def test_a_closed_endpoint_keeps_what_it_was_the_first_to_claim() -> None:
    state = Snapshot()
    claims = Claims("h1", state)
    put(state, *worlds.endpoint("first", "amber", "h1", 2, 7), 1)
    put(state, *worlds.endpoint("both", "amber", "h1", 3, 7), 2)  # the port is taken
    put(state, *worlds.endpoint("last", "amber", "h3", 3, 8), 3)  # its addresses are those of `both`
    for endpoint_id, endpoint in reversed(state.endpoints.items()):
        claims.add(endpoint_id, endpoint)
    claims.resolve()
    assert claims.winners == {"first"}
    assert claims.problem_of("last") == "02:57:0a:00:00:03 belongs to endpoint both"
    claims.remove("both")
    assert claims.resolve() == {"last"}
    assert claims.winners == {"first", "last"}


def test_whoever_has_an_address_as_its_own_is_looked_at_when_an_older_endpoint_is_allowed_it() -> None:
    state = Snapshot()
    claims = Claims("h1", state)
    put(state, *worlds.endpoint("older", "amber", "h1", 2, 2), 1)
    put(state, *worlds.endpoint("younger", "amber", "h2", 5, 2), 2)
    for endpoint_id, endpoint in state.endpoints.items():
        claims.add(endpoint_id, endpoint)
    claims.resolve()
    assert claims.winners == {"older", "younger"}
    key, value = worlds.endpoint("older", "amber", "h1", 2, 2)
    put(state, key, json.dumps(json.loads(value) | {"allowed": [{"address": "10.0.0.5"}]}), 1)
    claims.remove("older")
    claims.add("older", state.endpoints["older"])
    assert claims.resolve() == {"older", "younger"}
    assert claims.winners == {"older"}
