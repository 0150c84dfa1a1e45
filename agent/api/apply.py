"""Applies a document: all its changes are tried in memory before the first one is written, and many of them are written as one transaction.

When another writer takes what a transaction was planned from, its changes are tried again. When that fails, too, the rest of the document
is compared with the store anew, so two clients may apply one document at the same time, and a document that was applied in part goes on.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.api.changes import Changes
from intent.history import with_history
from specs import keys
from specs.documents.difference import Change, diff
from specs.documents.document import Document, concerns_endpoints
from specs.interest import SMALL_KINDS
from specs.model.network import Network
from specs.model.publish import Publish
from specs.references import KINDS as REFERRING
from specs.references import References
from specs.snapshot import Problem, Snapshot, snapshot, updated
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.staged import Outrun, StagedStore
from specs.store.values import Entry
from specs.store.writer import OUTRUN, TRIES, CheckPorts
from warren.errors import Conflict, Invalid, NotFound, Unavailable, WarrenError

REPORT_EACH = 250  # changes that are checked between two reports of progress
ROUNDS = 40  # comparisons with the store, while other writers make what the document makes; a large one is made in many commits
PAUSE_S = 0.2  # at most, before the next comparison, so that two writers do not keep step
READ_ALL = 50  # of so many endpoints one is changed: then it is faster to read all keys than to read those of each change


class NotApplied(WarrenError):
    """A change of a document was refused. The `made` changes before it are written, and the same document can be applied again."""

    def __init__(self, change: Change, made: int, total: int, cause: WarrenError) -> None:
        self.change, self.path, self.made, self.total, self.cause = change, change.path, made, total, cause
        text = f"{change.path or f'{change.action} {change.kind} {change.name}'}: {cause}"
        if change.path and isinstance(cause, Invalid):
            self.cause = cause = cause.at(_joined(change, cause.path))
            self.path, text = cause.path, str(cause)
        elif change.path and isinstance(cause, Conflict) and cause.field:
            self.path = _joined(change, cause.field)
        super().__init__(text + (f" ({made} of {total} changes were made)" if made else ""))
        self.http_status = cause.http_status

    def on(self, line: int | None) -> NotApplied:
        """The same error, with the line of the document in its text."""
        if line is not None:
            self.args = (f"line {line}: {self}",)
        return self

    def fields(self) -> dict[str, Any]:
        """The fields of the error that refused the change."""
        return self.cause.fields()


def _joined(change: Change, inner: str) -> str:
    """The path in the document of a field, or of a path that may begin with the kind of record."""
    inner = inner.removeprefix(change.kind).removeprefix(".")
    return f"{change.path}.{inner}" if inner else change.path


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyProgress:
    """How far a document is: `phase` is `checked` or `written`."""

    phase: str
    done: int
    total: int


class Application:
    """One document on its way into a store. `check` comes first, then `write`. Both report their progress while they work, and who does not read
    that any more ends the work after the transaction that was written last. `changes` are those of the check.

    A document that does not concern endpoints is compared without them, unless `whole` is set: one rule of an ACL costs the same however many
    endpoints exist. The writers read those that they must check."""

    def __init__(self, store: Store, repository: Repository, document: Document, *, prune: bool, whole: bool = False) -> None:
        self._store, self._repository, self._document, self._prune = store, repository, document, prune
        self._whole = whole or prune or concerns_endpoints(document)
        self.current = Snapshot()
        self.changes: tuple[Change, ...] = ()
        self.warnings: list[Problem] = []  # what the changed records name and nobody has
        self.touched: set[str] = set()  # ids of the endpoints that came or changed

    def check(self) -> Iterator[ApplyProgress]:
        """Compare the document with the store, and try all changes. Raises `Invalid`, and `NotApplied` for the first change that would be
        refused; then nothing is written."""
        for _ in range(ROUNDS):
            try:
                self.changes = yield from self._try_all()
                return
            except NotApplied as error:
                refused = error
                if not self._outdated(error):
                    break
        raise refused

    def write(self) -> Iterator[ApplyProgress]:
        """Make the changes. Raises `NotApplied` for a change that another writer has made impossible since the check."""
        made, changes = 0, self.changes
        for again in range(ROUNDS):
            try:
                if again:
                    changes = yield from self._try_all()
                yield from self._write_all(changes, made)
                return
            except NotApplied as error:
                refused = NotApplied(error.change, made + error.made, made + error.total, error.cause)
                made = refused.made
                if not self._outdated(error):
                    break
                time.sleep(random.uniform(0, PAUSE_S))
        raise refused

    def _outdated(self, error: NotApplied) -> bool:
        """Whether a change may have been refused because another writer has changed the specs since they were read."""
        return isinstance(error.cause, Conflict | Invalid | NotFound) and self._read() != self._entries

    def _read(self) -> list[Entry]:
        """The specs, without endpoints where they are not needed."""
        if self._whole:
            return self._store.list(keys.SPEC)[1]
        return [entry for small in SMALL_KINDS for entry in self._store.read(small)[1]]

    def _try_all(self) -> Generator[ApplyProgress, None, tuple[Change, ...]]:
        """Read the store; return the changes that make it equal to the document."""
        self._entries = self._read()
        self.current = snapshot((e.key, e.value, e.create_revision) for e in with_history(self._entries, self._store))
        changes = diff(self._document, self.current, self._prune)
        self._staged = StagedStore(self._store, self._entries, keys.SPEC, but=None if self._whole else keys.ENDPOINTS)
        if self._whole and len(changes) * READ_ALL > len(self.current.endpoints):
            self._staged.read(keys.CLAIM, keys.POOL, keys.PLACEMENTS, keys.PUBLISHERS)
        ports = _Ports(self._repository.ask_hosts)
        work = Changes(Repository(self._staged, check_ports=ports.add), self.current)
        for number, ports.change in enumerate(changes):
            if number % REPORT_EACH == 0:
                yield ApplyProgress(phase="checked", done=number, total=len(changes))
            try:
                work.make(ports.change)
            except WarrenError as error:
                raise NotApplied(ports.change, 0, len(changes), error) from None
        ports.check()
        after, records = updated(self.current, self._staged.written(keys.SPEC))
        references = References(after, None if self._whole else frozenset())
        self.warnings = [p for record in records if record.kind in REFERRING for p in references.of(record.kind, record.id)]
        self._staged.roll_back()
        return changes

    def _write_all(self, changes: Sequence[Change], before: int) -> Iterator[ApplyProgress]:
        """Make the changes, many in one transaction. `before` changes were made by earlier rounds. The more often other writers are faster, the
        smaller are the transactions: a large one would lose against writers of small ones for ever."""
        staged, written, largest = self._staged, 0, len(changes)
        staged.commit_by(self._repository.commit)
        work = Changes(Repository(staged), self.current)
        number, tries, commits = 0, 0, staged.commits
        while number < len(changes) or staged.pending:
            staged_so_far = number  # a commit writes these
            try:
                if number in (len(changes), written + largest) or staged.full:
                    staged.commit()
                else:
                    work.make(changes[number])
                    number += 1
            except Outrun:
                tries += 1
                if tries == TRIES:
                    raise NotApplied(changes[written], written, len(changes), Unavailable("etcd", OUTRUN)) from None
                largest = max(1, (staged_so_far - written) // 2)
                number = written if staged.commits == commits else staged_so_far
                time.sleep(random.uniform(0, min(0.05, 0.001 * 2**tries)))
                staged.refresh()
            except WarrenError as error:
                staged.roll_back()
                raise NotApplied(changes[min(number, len(changes) - 1)], written, len(changes), error) from None
            if staged.commits != commits:
                largest = max(largest, 2 * (staged_so_far - written))
                written, tries, commits = staged_so_far, 0, staged.commits
                self.touched |= work.touched
                yield ApplyProgress(phase="written", done=before + written, total=before + len(changes))


class _Ports:
    """Collects the ports that a document publishes, so that each host is asked once. `change` is the one that is tried."""

    def __init__(self, check_ports: CheckPorts) -> None:
        self._check_ports = check_ports
        self._by_network: dict[tuple[str | None, str], list[tuple[Change, Network, tuple[Publish, ...]]]] = defaultdict(list)
        self.change: Change

    def add(self, host: str | None, network: Network, publish: tuple[Publish, ...]) -> None:
        """Ask about these ports later."""
        self._by_network[host, network.id].append((self.change, network, publish))

    def check(self) -> None:
        """Raise `NotApplied` for the change whose port a process of a host has."""
        for (host, _), ports in self._by_network.items():
            try:
                self._check_ports(host, ports[0][1], tuple(publish for _, _, several in ports for publish in several))
            except Conflict:
                self._find(host, ports)

    def _find(self, host: str | None, ports: Iterable[tuple[Change, Network, tuple[Publish, ...]]]) -> None:
        for change, network, publish in ports:
            try:
                self._check_ports(host, network, publish)
            except Conflict as error:
                raise NotApplied(change, 0, 0, error) from None
