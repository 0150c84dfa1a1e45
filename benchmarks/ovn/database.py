"""A client of an OVSDB server (RFC 7047 with Open vSwitch's monitor_cond), as thin as one can be: what a transaction takes is the
server's time, not the client's."""

from __future__ import annotations

import codecs
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.lab.run import LabError

Row = dict[str, Any]
Operation = dict[str, Any]
CHUNK = 1 << 20


def split(text: str) -> tuple[list[dict[str, Any]], str]:
    """The whole JSON messages at the start of what a connection has received, and the rest."""
    decoder, messages, at = json.JSONDecoder(), list[dict[str, Any]](), 0
    while at < len(text):
        try:
            message, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        messages.append(message)
    return messages, text[at:]


def value(data: object) -> object:
    """A column's value in Python's types: maps are dictionaries, sets are lists."""
    match data:
        case ["map", list(pairs)]:
            return {key: value(item) for key, item in pairs}
        case ["set", list(items)]:
            return [value(item) for item in items]
        case ["uuid" | "named-uuid", name]:
            return name
    return data


def as_map(data: dict[str, str]) -> list[object]:
    """A dictionary as a column's value."""
    return ["map", [[key, item] for key, item in data.items()]]


def as_set(items: list[Any]) -> list[object]:
    """A list as a column's value."""
    return ["set", items]


def insert(table: str, name: str = "", /, **row: object) -> Operation:
    """A new row; other operations of the transaction may refer to it as `named(name)`."""
    return {"op": "insert", "table": table, "row": row} | ({"uuid-name": name} if name else {})


def named(name: str) -> list[str]:
    """A row that the same transaction inserts."""
    return ["named-uuid", name]


def update(table: str, where: tuple[str, object] | None, /, **row: object) -> Operation:
    """New values for the rows with a value in a column, or for all rows."""
    return {"op": "update", "table": table, "where": _where(where), "row": row}


def mutate(table: str, where: tuple[str, object] | None, column: str, how: str, operand: object) -> Operation:
    """A change of a column of the rows with a value in another column, or of all rows."""
    return {"op": "mutate", "table": table, "where": _where(where), "mutations": [[column, how, operand]]}


def _where(where: tuple[str, object] | None) -> list[list[object]]:
    return [] if where is None else [[where[0], "==", where[1]]]


class Database:
    """One connection to one database. It keeps no copy of the database."""

    def __init__(self, path: Path, name: str) -> None:
        self.name, self.calls, self.text = name, 0, ""
        self.answers: dict[object, dict[str, Any]] = {}
        self.updates: list[tuple[str, Row]] = []
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(1)
        self.socket.connect(str(path))

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, method: str, *parameters: object) -> int:
        """Send a call; returns its number."""
        self.calls += 1
        self.socket.sendall(json.dumps({"method": method, "params": [self.name, *parameters], "id": self.calls}).encode())
        return self.calls

    def begin(self, *operations: Operation) -> int:
        """Send a transaction and do not wait for the answer."""
        return self.send("transact", *operations)

    def transact(self, *operations: Operation) -> list[Any]:
        """The results of a transaction's operations. Raises `LabError` if the server refuses it."""
        return self.results(self.begin(*operations))

    def results(self, call: int) -> list[Any]:
        """The results of a transaction that `begin` has sent."""
        results: list[Any] = self._answer(call)
        errors = [result for result in results if result and "error" in result]
        if errors:
            raise LabError(f"{self.name}: {errors[0]['error']}: {errors[0].get('details', '')}")
        return results

    def select(self, table: str, where: tuple[str, object] | None, *columns: str) -> list[Row]:
        """The rows with a value in a column."""
        operation = {"op": "select", "table": table, "where": _where(where), "columns": list(columns)}
        (result,) = self.transact(operation)
        return [{column: value(data) for column, data in row.items()} for row in result["rows"]]

    def watch(self, table: str, where: tuple[str, object], *columns: str) -> None:
        """Have the server report the rows with a value in a column, and each of their changes."""
        request = {"columns": list(columns), "where": _where(where)}
        self._take(self._answer(self.send("monitor_cond", table, {table: [request]})))

    def until(self, holds: Callable[[Row], bool], timeout_s: float = 60) -> None:
        """Wait until the row of a report or of a change, whichever columns it has, is as it should be."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self.updates:
                if holds(self.updates.pop(0)[1]):
                    return
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no row as it should be within {timeout_s:g} s")
            self._receive()

    def _answer(self, call: int, timeout_s: float = 120) -> Any:
        deadline = time.monotonic() + timeout_s
        while call not in self.answers:
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no answer within {timeout_s:g} s")
            self._receive()
        answer = self.answers.pop(call)
        if answer.get("error"):
            raise LabError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> None:
        try:
            data = self.socket.recv(CHUNK)
        except TimeoutError:
            return
        if not data:
            raise LabError(f"{self.name}: the server has closed the connection")
        messages, self.text = split(self.text + self.decoder.decode(data))
        for message in messages:
            match message:
                case {"method": "echo", "params": parameters, "id": number}:
                    self.socket.sendall(json.dumps({"result": parameters, "error": None, "id": number}).encode())
                case {"method": "update2", "params": [_, tables]}:
                    self._take(tables)
                case {"id": number}:
                    self.answers[number] = message

    def _take(self, tables: dict[str, dict[str, dict[str, Row | None]]]) -> None:
        self.updates += list(changes(tables))


def changes(tables: dict[str, dict[str, dict[str, Row | None]]]) -> Iterator[tuple[str, Row]]:
    """What a report of monitor_cond says: initial, insert, modify or delete, and the columns that it names."""
    for rows in tables.values():
        for row in rows.values():
            for what, columns in row.items():
                yield what, {column: value(data) for column, data in (columns or {}).items()}
