"""The agent's cache is an immutable value: readers never see half a change, and writers never disturb them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.cache import Cache
from agent.composition import build
from agent.config import load
from agent.gateway.held_ports import HeldPorts
from agent.gateway.host_access import Machines
from agent.gateway.reconciler import INTERVAL_S, SPECS, GatewayReconciler
from agent.gateway.routes import GatewayRoutes
from agent.gateway.rules import Outside, outside
from agent.gateway.switches import Switches
from specs.store.values import Entry, WatchEvent
from tests.unit import worlds


class NoStore:
    """A store that is never asked."""


def entries(*pairs: tuple[str, str]) -> list[Entry]:
    return [Entry(key, value, number, number) for number, (key, value) in enumerate(pairs, 1)]


def cache(*pairs: tuple[str, str]) -> Cache:
    filled = Cache(NoStore(), "h1")  # type: ignore[arg-type]
    filled._specs_read(len(pairs), entries(*pairs))
    return filled


NETWORKS = tuple(worlds.network(f"n{number}", number, mode="nat") for number in range(1, 40))
ENDPOINTS = tuple(worlds.endpoint(f"e{number}", f"n{number}", "h1", 2, number) for number in range(1, 40))
WORLD = (worlds.host("h1", "198.18.0.11"), *NETWORKS, *ENDPOINTS)


def delete_and_create(filled: Cache, stop: threading.Event) -> None:
    """What the feed does while networks are deleted and created by others."""
    revision = 1000
    while not stop.is_set():
        for key, value in NETWORKS:
            revision += 1
            filled._specs_changed(revision, [WatchEvent(key, None, revision, revision)])
            revision += 1
            filled._specs_changed(revision, [WatchEvent(key, value, revision, revision)])


def test_a_view_that_a_reader_holds_does_not_change_under_it() -> None:
    filled = cache(*WORLD)
    view = filled.view
    before = (set(view.snapshot.networks), set(view.snapshot.endpoints), set(view.local_endpoints), dict(view.snapshot.born))
    filled._specs_changed(100, [WatchEvent(key, None, 100, 100) for key, _ in (*NETWORKS, *ENDPOINTS)])
    assert (
        set(view.snapshot.networks),
        set(view.snapshot.endpoints),
        set(view.local_endpoints),
        dict(view.snapshot.born),
    ) == before
    assert filled.view.snapshot.networks == filled.view.snapshot.endpoints == filled.view.local_endpoints == {}


def test_readers_and_the_feed_at_once() -> None:
    """The gateway's derivation walks networks, zones and endpoints; Docker's IPAM walks all networks."""
    filled, stop = cache(*WORLD), threading.Event()
    writer = threading.Thread(target=delete_and_create, args=(filled, stop), daemon=True)
    writer.start()
    try:
        for _ in range(150):
            view = filled.view
            outside(view.snapshot, view.valid, "h1", view.local_endpoints.values(), Machines(addresses={}))
            assert all(network.ip_range is not None for network in view.snapshot.networks.values())
    finally:
        stop.set()
        writer.join(30)


def test_a_full_read_keeps_own_writes_that_it_does_not_show_yet() -> None:
    filled = cache(*WORLD)
    key, value = worlds.network("late", 99)
    filled.applied([(key, value)], 500)
    filled._specs_read(400, entries(*WORLD))
    assert json.loads(value)["id"] in filled.view.snapshot.networks
    filled._specs_read(600, entries(*WORLD))
    assert json.loads(value)["id"] not in filled.view.snapshot.networks


def test_an_older_event_does_not_undo_an_own_write() -> None:
    filled = cache(*WORLD)
    key, value = ENDPOINTS[0]
    filled.applied([(key, None)], 500)
    filled._specs_changed(450, [WatchEvent(key, value, 2, 450)])
    assert key.rpartition("/")[2] not in filled.view.local_endpoints
    filled._specs_changed(600, [WatchEvent(key, value, 600, 600)])
    assert key.rpartition("/")[2] in filled.view.local_endpoints


def test_listeners_hear_of_local_endpoints_alone() -> None:
    filled, heard = cache(*WORLD), list[set[str]]()
    filled.changed.add(heard.append)
    elsewhere = worlds.endpoint("far", "n1", "h2", 9, 90)
    filled._specs_changed(100, [WatchEvent(elsewhere[0], elsewhere[1], 100, 100)])
    assert heard == []
    filled._specs_changed(101, [WatchEvent(ENDPOINTS[0][0], None, 101, 101)])
    assert heard == [{ENDPOINTS[0][0].rpartition("/")[2]}]


# ---- every loop of the agent ---------------------------------------------------------------------------------------------


def agent_config(tmp_path: Any) -> Any:
    return load({
        "WARREN_VTEP": "127.0.0.1", "WARREN_ETCD": "http://127.0.0.1:1", "WARREN_HOST": "h1", "WARREN_RUN": str(tmp_path),
        "WARREN_SOCKET": str(tmp_path / "agent.sock"), "WARREN_DOCKER_SOCKET": str(tmp_path / "docker.sock"),
        "WARREN_OVSDB": f"unix:{tmp_path}/nowhere.sock",
    })  # fmt: skip


def test_every_loop_of_the_agent_survives_any_exception_and_status_shows_it(tmp_path: Any) -> None:
    """Of all workers that an agent has, whatever feature they belong to: none is a thread of its own making."""
    agent, docker = build(agent_config(tmp_path), with_docker=True)
    assert docker is not None
    workers = agent.workers()
    assert len({worker.name for worker in workers}) == len(workers) >= 10
    for worker in workers:
        step, worker._step = worker._step, raising
        worker.run_once()
        problem = f"{worker.name}: internal error: ZeroDivisionError"
        assert problem in agent.registration.problems(), worker.name
        worker._step = lambda items: None
        worker.run_once()
        assert problem not in agent.registration.problems(), worker.name
        worker._step = step


def raising(items: frozenset[str]) -> None:
    raise ZeroDivisionError


def test_the_gateway_goes_on_after_a_network_was_deleted_at_the_wrong_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = cache(*WORLD)
    switches = Switches(tmp_path / "forwarding.json")
    gateway = GatewayReconciler(
        filled, switches, HeldPorts("h1"), GatewayRoutes(tuple), lambda: None, forwards_for_others=False, etcd=()
    )
    worker = gateway.workers()[0]
    seen: list[Outside] = []

    def failing(needed: Outside) -> None:
        seen.append(needed)
        raise KeyError("n1")

    monkeypatch.setattr(gateway, "_reconcile", failing)
    worker.run_once()
    assert worker.problems == ["gateway: internal error: KeyError"]
    monkeypatch.setattr(gateway, "_reconcile", seen.append)
    worker.run_once()
    assert worker.problems == []
    assert len(seen) == 2


def test_specs_that_change_nothing_for_the_gateway_do_not_let_it_read_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But it is read every `INTERVAL_S` seconds, also while specs change all the time."""
    filled, clock = cache(*WORLD), [100.0]
    switches = Switches(tmp_path / "forwarding.json")
    gateway = GatewayReconciler(
        filled, switches, HeldPorts("h1"), GatewayRoutes(tuple), lambda: None, forwards_for_others=False, etcd=()
    )
    worker, read = gateway.workers()[0], list[Outside]()
    monkeypatch.setattr(gateway, "_reconcile", read.append)
    monkeypatch.setattr("agent.gateway.reconciler.time.monotonic", lambda: clock[0])
    assert worker.run_once(frozenset({SPECS})) == INTERVAL_S
    clock[0] += 0.5
    filled.applied([worlds.endpoint("other", "n1", "h2", 3, None)], 100)
    assert worker.run_once(frozenset({SPECS})) == INTERVAL_S - 0.5
    assert len(read) == 1
    filled.applied([worlds.endpoint("e1", "n1", "h1", 2, 1, publish=[{"host_port": 8080, "port": 80}])], 101)
    worker.run_once(frozenset({SPECS}))
    assert len(read) == 2
    clock[0] += INTERVAL_S
    worker.run_once(frozenset({SPECS}))
    worker.run_once()
    assert len(read) == 4
    monkeypatch.setattr(gateway, "_reconcile", lambda needed: (_ for _ in ()).throw(OSError(5, "it does not work")))
    worker.run_once()
    monkeypatch.setattr(gateway, "_reconcile", read.append)
    worker.run_once(frozenset({SPECS}))
    assert len(read) == 5, "the step before failed"


def test_what_follows_from_the_networks_alone_is_kept_while_they_stay() -> None:
    filled = cache(*WORLD)
    valid = filled.view.valid
    assert valid.zones == {f"n{number}": number for number in range(1, 40)}
    elsewhere = worlds.endpoint("far", "n1", "h2", 9, 90)
    filled._specs_changed(100, [WatchEvent(elsewhere[0], elsewhere[1], 100, 100)])
    filled.applied([(ENDPOINTS[0][0], None)], 101)
    assert filled.view.valid is valid
    key, value = worlds.network("late", 99)
    filled._specs_changed(102, [WatchEvent(key, value, 102, 102)])
    assert filled.view.valid.by_zone[99].name == "late"
    filled._specs_changed(103, [WatchEvent(key, None, 103, 103)])
    assert 99 not in filled.view.valid.by_zone
    assert 99 not in valid.by_zone


def test_what_this_agent_has_written_is_taken_once() -> None:
    filled, local_changes, host_changes = cache(*WORLD), list[set[str]](), list[None]()
    filled.changed.add(local_changes.append)
    filled.host_changed.add(lambda: host_changes.append(None))
    key, value = worlds.endpoint("late", "n1", "h1", 2, 90)
    record = worlds.host("h1", "198.18.0.99")
    filled.applied([(key, value), record], 500)
    assert local_changes == [{"late"}]
    snapshot = filled.view.snapshot
    filled._specs_changed(500, [WatchEvent(key, value, 500, 500), WatchEvent(*record, 500, 500)])
    assert local_changes == [{"late"}]
    assert filled.view.snapshot.endpoints is snapshot.endpoints
    assert host_changes == [None]
    # the same write to a record that existed: its revision of creation comes with the feed, and decides conflicts
    filled.applied([(key, value)], 600)
    filled._specs_changed(600, [WatchEvent(key, value, 500, 600)])
    assert filled.view.snapshot.born["endpoint/late"] == 500
    filled.applied([(key, None)], 700)
    filled._specs_changed(700, [WatchEvent(key, None, 0, 700)])
    assert "late" not in filled.view.local_endpoints
