"""The comparison with OVN: what its programs print and its databases say is read rightly, and figures are set against each other."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from benchmarks.ovn import database as db
from benchmarks.ovn.flows import EVENT, QUIET_S, complete
from benchmarks.ovn.programs import Programs, version
from benchmarks.ovn.side import RULES, lost, processor_ms, rules
from benchmarks.ovn.turns import UNITS, compared
from tools.lab.run import LabError


def test_messages_of_a_stream_are_split_wherever_it_is_cut() -> None:
    first, second = {"id": 1, "result": [{"rows": ["}{"]}]}, {"method": "echo", "params": [], "id": "echo"}
    stream = json.dumps(first) + json.dumps(second)
    for cut in range(len(stream)):
        messages, rest = db.split(stream[:cut])
        more, rest = db.split(rest + stream[cut:])
        assert (messages + more, rest) == ([first, second], "")


def test_values_of_columns() -> None:
    assert db.value(["map", [["ovn-installed", "true"]]]) == {"ovn-installed": "true"}
    assert db.value(["set", [["uuid", "a"], ["uuid", "b"]]]) == ["a", "b"]
    assert (db.value(["set", []]), db.value(True), db.value("map")) == ([], True, "map")
    assert db.value(db.as_map({"a": "b"})) == {"a": "b"}


def test_changes_of_a_report() -> None:
    tables = {"Interface": {"u1": {"modify": {"external_ids": ["map", [["a", "b"]]]}}, "u2": {"delete": None}}}
    assert list(db.changes(tables)) == [("modify", {"external_ids": {"a": "b"}}), ("delete", {})]


def test_operations_name_the_rows_that_they_are_for() -> None:
    assert db.insert("Port", "p", name="n")["uuid-name"] == "p"
    assert "uuid-name" not in db.insert("Port", name="n")
    assert db.update("ACL", ("name", "a"), match="1")["where"] == [["name", "==", "a"]]
    assert db.mutate("Open_vSwitch", None, "next_cfg", "+=", 1)["where"] == []


def served(path: Path, *messages: object) -> threading.Thread:
    """A server that answers the first call of one client with these messages."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(1 << 16)
            for message in messages:
                connection.sendall(json.dumps(message).encode())
            connection.recv(1 << 16)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_row_that_changes_before_the_answer_is_not_missed(tmp_path: Path) -> None:
    changed = {"method": "update2", "params": ["monitor", {"T": {"u": {"modify": {"up": True}}}}], "id": None}
    thread = served(tmp_path / "db", changed, {"id": 1, "error": None, "result": [{"count": 1}]})
    with db.Database(tmp_path / "db", "D") as database:
        assert database.transact(db.update("T", None, up=True)) == [{"count": 1}]
        database.until(lambda row: row.get("up") is True)
    thread.join()


def test_a_refused_transaction_says_why(tmp_path: Path) -> None:
    refusal = [{}, {"error": "constraint violation", "details": "a port of this name exists"}]
    thread = served(tmp_path / "db", {"id": 1, "error": None, "result": refusal})
    with db.Database(tmp_path / "db", "D") as database, pytest.raises(LabError, match="constraint violation: a port"):
        database.transact(db.insert("T"))
    thread.join()


def test_lost_pings_are_those_before_the_last_answer() -> None:
    line = "64 bytes from 10.64.0.2: icmp_seq={} ttl=64 time=0.31 ms\n"
    output = "PING 10.64.0.2 (10.64.0.2) 56(84) bytes of data.\n" + "".join(line.format(n) for n in (1, 2, 5, 5, 7))
    assert lost(output + "\n--- 10.64.0.2 ping statistics ---\n9 packets transmitted, 4 received\n") == 3
    with pytest.raises(LabError):
        lost("From 10.64.0.1 icmp_seq=1 Destination Host Unreachable\n")


def test_a_change_is_complete_when_no_event_follows() -> None:
    assert complete([1.0], 2.0, 9.0) is None
    assert complete([1.0, 2.1, 2.2], 2.0, 2.2 + QUIET_S / 2) is None
    assert complete([1.0, 2.1, 2.2], 2.0, 2.2 + QUIET_S * 2) == 2.2


def test_events_of_a_flow_monitor() -> None:
    reply = "OFPST_FLOW_MONITOR reply (OF1.4) (xid=0x0):\n event={} table=8 cookie=0x5 dl_dst=02:00:00:00:00:01 actions=drop\n"
    assert [bool(EVENT.search(reply.format(event))) for event in ("ADDED", "DELETED", "MODIFIED")] == [True] * 3
    assert not EVENT.search("OFPST_FLOW_MONITOR reply (OF1.4) (xid=0x0):\n event=ABBREV xid=0x1\n")


def test_versions_of_a_release(tmp_path: Path) -> None:
    assert version("ovn-controller 26.03.1\nOpen vSwitch Library 3.7.1\n") == "26.03.1"
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    for file in (libraries / "ld-linux-x86-64.so.2", tmp_path / "usr/bin/ovn-northd", tmp_path / "usr/sbin/ovsdb-server"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    command = Programs(tmp_path).command("ovsdb-server", "--version")
    assert command[1:] == ("--library-path", str(libraries), str(tmp_path / "usr/sbin/ovsdb-server"), "--version")


def test_one_rule_differs() -> None:
    for number in range(600):
        before, after = rules(number), rules(number + 1)
        assert len(before) == RULES
        assert [n for n, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [2]


def test_figures_are_set_against_each_other() -> None:
    memory, lost_packets = "memory: etcd, or northd and two ovsdb-servers", "controller restarted, packets lost"
    warren = {memory: [10.0], lost_packets: [1.0, 3.0, 2.0], "one remote endpoint": [4.0]}
    figures = compared(warren, {lost_packets: [0.0, 0.0, 9.0], memory: [40.0]})
    assert [(figure.what, figure.ratio) for figure in figures] == [(lost_packets, None), (memory, 0.25)]
    assert all(figure.unit == UNITS[figure.what] for figure in figures)


def test_processor_time_of_a_process_that_has_ended_is_none() -> None:
    assert processor_ms(2**22 + 1) == 0
