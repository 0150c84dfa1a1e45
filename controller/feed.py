"""The etcd feed: a child process of the controller, because grpc blocks a process whose threads Ryu has patched.

Run as `python -m controller.feed FD`; it exchanges JSON lines with the parent over the socket FD. It sends the specs: first
all of them, then every change. It receives reports and writes them to `status/`. The child ends when its parent closes the
socket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from controller.reports import Reports
from intent.history import with_history
from specs import keys
from specs.identity import Machine
from specs.interest import Interest, networks_of
from specs.lineage import StoreOrigin, restored
from specs.store.admission import Admission
from specs.store.continuity import Continuity
from specs.store.etcd import Store
from specs.store.feed import Feed
from specs.store.lease import EtcdLease
from specs.store.tls import EtcdTls
from specs.store.values import Entry, Reread, WatchEvent
from warren.errors import Conflict, Unavailable, WarrenError
from warren.memory import give_back_soon
from warren.settings import LOG_FORMAT, log_level, machine_ids, reloaded, run_directory, settings, vtep

log = logging.getLogger("warren.feed")


class SpecFeed:
    """Passes specs from etcd to the controller of `host`, and the controller's reports to etcd."""

    def __init__(self, store: Store, host: str, channel: socket.socket, continuity: Continuity, machine: Machine) -> None:
        self.store, self.host, self.channel = store, host, channel
        self.stop = threading.Event()
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()  # reports of the parent, and the states that etcd has
        complete: Callable[[list[Entry]], list[Entry]] = lambda entries: list(with_history(entries, store))  # noqa: E731
        self.following = Feed(store, Interest(host), self._read, self._changed, self._down, self._left, complete)
        self.networks: list[str] | None = None  # the networks whose endpoints are read; None: all
        self.send_lock = threading.Lock()
        self.continuity, self.lineage = continuity, ""
        self.admission = Admission(store, host, machine, "controller", keys.status_controller(host))
        self.machine = machine
        self.lease = EtcdLease(store, ttl_s=10, admit=self._still_admitted)

    def run(self) -> None:
        """Run until the parent closes the socket."""
        self._await_admission()
        _start(self._write)
        self.following.run(self.stop)

    def _await_admission(self) -> None:
        """Wait until no controller of another machine is this host. Until then the parent gets no specs, so it changes nothing."""
        _start(self._receive)
        refused = ""
        while not self.stop.is_set():
            try:
                self.admission.check()
                self.admission.admitted()
                return
            except Conflict as error:
                if str(error) != refused:
                    refused = str(error)
                    self._send({"type": "refused", "reason": refused})
                with contextlib.suppress(Unavailable):
                    self.admission.refused(error)
            except Unavailable as error:
                self._down(str(error))
            self.stop.wait(1.0)

    def _still_admitted(self) -> None:
        """Raise `Conflict`, and end this process, if another machine has become this host while the lease was lost."""
        try:
            self.admission.check()
        except Conflict:
            self.stop.set()
            raise

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self.send_lock:
                self.channel.sendall(data)
        except OSError:
            self.stop.set()

    def _read(self, revision: int, entries: list[Entry]) -> None:
        known, origin = self.continuity.known, self.continuity.origin(revision, entries)
        self.lineage = origin.lineage
        if restored(known, origin) is not None:  # what was written is not there any more
            self.lease.anew()
        _, entries_of_states = self.store.list(keys.status_endpoints_of(self.host))
        stored = {entry.key.rpartition("/")[2]: entry.value for entry in entries_of_states}
        self.messages.put({"stored": stored})  # before the parent hears of the read: its reports come after it
        self._send(
            {
                "type": "read",
                "revision": revision,
                "entries": _specs(entries),
                "followed": self._followed(),
                "placements": self._placements_elsewhere(entries),
                "origin": dataclasses.asdict(origin),
                "known": dataclasses.asdict(known) if known is not None else None,
                "reported": list(stored),
            }
        )
        give_back_soon()

    def _changed(self, revision: int, events: list[WatchEvent]) -> None:
        if any(event.key == keys.lineage() and event.value != self.lineage for event in events):
            raise Reread("the lineage was replaced")
        at = time.monotonic()  # the clock is the same in all processes of a host
        self._send({"type": "changed", "revision": revision, "at": at, "entries": _specs(events), "followed": self._followed()})

    def _left(self, prefixes: frozenset[str]) -> None:
        self._send({"type": "left", "networks": sorted(networks_of(prefixes) or ())})

    def _followed(self) -> list[str] | None:
        """The networks whose endpoints are read, sorted; None: all."""
        networks = networks_of(self.following.followed)
        self.networks = None if networks is None else sorted(networks)
        return self.networks

    def _placements_elsewhere(self, entries: list[Entry]) -> dict[str, str]:
        """Where the endpoints of all hosts are, if this host has none: it may have had another name."""
        if self._followed() is None or any(entry.key.startswith(keys.PLACEMENTS) for entry in entries):
            return {}
        placements = (key.split("/") for key in self.store.names(keys.PLACEMENTS))
        return {endpoint_id: host for _, host, endpoint_id in placements}

    def _down(self, reason: str) -> None:
        self._send({"type": "down", "reason": reason})

    def _receive(self) -> None:
        with self.channel.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                self.messages.put(json.loads(line))
        self.stop.set()
        threading.Timer(2.0, os._exit, (0,)).start()  # if etcd is unavailable, end without closing the lease; it expires
        try:
            self.lease.close()
        except WarrenError as error:
            log.info("feed.lease_left reason=%s", error)
        os._exit(0)  # not sys.exit, because the watch thread may be blocked in grpc

    def _write(self) -> None:
        """Write reports in order. While etcd is unavailable, the newest of each kind wait."""
        reports, wait_s = Reports(self.store, self.lease, self.host), None
        while True:
            with contextlib.suppress(queue.Empty):
                self._take(self.messages.get(timeout=wait_s), reports)
                while True:
                    self._take(self.messages.get_nowait(), reports)
            wait_s = reports.write(time.monotonic())

    def _take(self, message: dict[str, Any], reports: Reports) -> None:
        if (states := message.get("stored")) is not None:
            reports.take_stored(states)
            return
        if (origin := message.pop("origin", None)) is not None:
            self.continuity.remember(StoreOrigin(**{**origin, "revision": max(origin["revision"], message["revision"])}))
        reports.take({**message, "machine": self.machine.data(), "networks": self.networks})


def _specs(entries: Iterable[Entry | WatchEvent]) -> list[tuple[str, str | None, int, int]]:
    """The specs among the entries, for a message."""
    return [(e.key, e.value, e.create_revision, e.mod_revision) for e in entries if e.key.startswith(keys.SPEC)]


def _start(loop: Callable[[], None]) -> None:
    """Run a loop in a thread of its own."""
    threading.Thread(target=_run_or_exit, args=(loop,), daemon=True).start()


def _run_or_exit(loop: Callable[[], None]) -> None:
    """Run a thread's loop. An exception ends the whole process, and the parent starts another: no thread ends silently."""
    try:
        loop()
    except Exception:
        log.exception("feed.failed")
        os._exit(1)


def _reload(store: Store) -> None:
    """Read certificates and the log's level anew. What cannot be read leaves everything as it was."""
    try:
        level = log_level(reloaded(os.environ))
        store.reload()
    except WarrenError as error:
        log.warning("feed.reload_refused reason=%s", error)
        return
    logging.getLogger().setLevel(level)


def main() -> None:
    """Run the child process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read anew
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C signals the whole process group; the child ends when its parent does
    parent = os.getppid()
    logging.basicConfig(format=LOG_FORMAT)
    try:
        logging.getLogger().setLevel(log_level(os.environ))
        config = settings(os.environ)
        tls = EtcdTls(config.etcd_cert, config.etcd_key, config.etcd_ca)
        tls.check()
    except WarrenError as error:
        time.sleep(1)  # a parent that starts reads the same settings, says so and ends
        if os.getppid() == parent:
            log.error("feed.settings reason=%s", error)
        sys.exit(2)
    store = Store(list(config.etcd), config.prefix, tls)
    # in a thread: this one may hold the store's lock
    signal.signal(signal.SIGHUP, lambda number, frame: threading.Thread(target=_reload, args=(store,)).start())
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.setblocking(True)  # the parent, patched by Ryu, makes its sockets non-blocking
    machine_id, boot = machine_ids(os.environ)
    machine = Machine(id=machine_id, boot=boot, vtep=vtep(os.environ))
    SpecFeed(store, config.host, channel, Continuity(store, run_directory(os.environ) / "controller-etcd.json"), machine).run()
    time.sleep(3)  # `_receive` closes the lease and ends the process; end it here if etcd or grpc keeps that thread waiting
    os._exit(0)


if __name__ == "__main__":
    main()
