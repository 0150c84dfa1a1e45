"""Reads FAUCET's faucet.yaml: ACLs, meters and their uses, with a note about each object that was imported or could not be.
Pure.

It checks what FAUCET 1.10 checks of ACLs, meters and their uses, so that a typing error stays an error. It imports an ACL
completely or not at all, because without one of its rules it would mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from posixpath import dirname, join, normpath
from typing import Any, NamedTuple

from acl.actions import ToPort
from acl.faucet.dialect import FAUCET
from acl.faucet.meters import read_limit
from acl.faucet.result import HARMLESS, IN_FORCE, NOT_IN_FORCE, FaucetAcl, FaucetMeter, Import, ImportPart, Note, Use
from acl.faucet.schema import BODY, DP, PORT, SECTIONS, TOP, VLAN, check, check_rule, inside, words
from acl.language import Rule, canonical, parse_rule
from warren.errors import MISSING, Invalid
from warren.yaml import List, Map, Reader, line_of, plain

LISTS_LIMIT = 16  # ACLs of one object
METER_IDS = range(1, 32_769)


def read(files: Mapping[str, str], main: str) -> Import:
    """Read `main` and the files that it includes. Raises `Invalid`, starting with file and line, for what FAUCET refuses."""
    return _Configuration(files, main).result()


def includes(text: str, file: str) -> tuple[str, ...]:
    """Return the paths of the files that a text includes. Raises `Invalid`."""
    return tuple(path for path, _, _ in _included(_top(Reader(FAUCET), text, file), file))


_NO_802_1X = "Warren has no 802.1X: give the ACL to an endpoint"
_WHY = {
    "native_vlan": "an endpoint is in the network that it declares", "tagged_vlans": "an endpoint is in the network that it declares",
    "interface_ranges": "a range names no endpoint: give its ACLs to endpoints", "stack": "the overlay joins hosts, without a stack",
    "dot1x": _NO_802_1X, "faucet_vips": "a network's gateway takes its place", "faucet_mac": "a network's gateway takes its place",
    "routers": "routes are not imported", "timeout": "addresses are declared, not learned",
    "max_hosts": "addresses are declared, not learned", "permanent_learn": "addresses are declared, not learned",
    "enabled": "delete the endpoint of a port that is disabled",
}  # fmt: skip


def _top(reader: Reader, text: str, file: str) -> Map:
    data = reader.data(text, file)
    if not isinstance(data, Map) or not data:
        raise Invalid(f"{file}:1", data, f"a mapping with some of {', '.join(TOP)}")
    check(data, dict.fromkeys(TOP, object), file, "", 1)
    return data


def _included(data: Map, file: str) -> Iterator[tuple[str, int, bool]]:
    for word in ("include", "include-optional"):
        paths = data.get(word, List())
        if not isinstance(paths, List):
            raise Invalid(f"{file}:{data.lines[word]}: {word}", paths, "a list of files")
        for number, path in enumerate(paths):
            yield normpath(join(dirname(file), str(path))), paths.lines[number], word == "include"


def _fit(name: Any) -> str:
    """Return the most similar name that is valid in Warren."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", str(name)).lstrip("_.-")[:63] or "acl"


class _Item(NamedTuple):
    """An object of a section, and its position."""

    data: Any
    file: str
    line: int
    path: str


class _Configuration:
    def __init__(self, files: Mapping[str, str], main: str) -> None:
        self.files, self.main, self.reader, self.notes = files, main, Reader(FAUCET), list[Note]()
        self.sections: dict[str, dict[Any, _Item]] = {section: {} for section in SECTIONS}
        self.read: set[str] = set()
        self._read(main)

    def result(self) -> Import:
        uses = list(self._uses())
        if not self.sections["dps"]:
            outcome = NOT_IN_FORCE if self.sections["acls"] else HARMLESS
            self.notes.append(Note(self.main, 1, "dps", outcome, "there are none: nothing says where the ACLs belong"))
        self.used = {self.sections["acls"][key].path for _, keys in uses for key in keys}
        self.used |= {self.sections["meters"][name].path for name in self._meters_in_use() if name in self.sections["meters"]}
        self.meters = self._names("meters")
        meters = {key: meter for key in self.meters if (meter := self._meter(key)) is not None}
        self.meters = {key: name for key, name in self.meters.items() if key in meters}
        self.acl_names = self._names("acls")
        self.acls = {key: (name, rules) for key, name in self.acl_names.items() if (rules := self._acl(key)) is not None}
        acls = tuple(FaucetAcl(name, tuple(rules), self.sections["acls"][key].line) for key, (name, rules) in self.acls.items())
        taken = tuple(use for raw, keys in uses if (use := self._taken(raw, keys)) is not None)
        for item in self.sections["routers"].values():
            self._note(item, HARMLESS, _WHY["routers"])
        notes = sorted(self.notes, key=lambda note: (note.file, note.line, note.path))
        return Import(acls, tuple(meters.values()), taken, tuple(notes))

    def _note(self, item: Any, outcome: ImportPart, text: str, below: str = "", line: int | None = None) -> None:
        self.notes.append(Note(item.file, item.line if line is None else line, item.path + below, outcome, text))

    def _left_out(self, item: _Item) -> ImportPart:
        """What it means that an ACL or a meter is left out: nothing, if nothing uses it."""
        return NOT_IN_FORCE if item.path in self.used else HARMLESS

    def _meters_in_use(self) -> Iterator[str]:
        for item in self.sections["acls"].values():
            body = item.data.get("rules") if isinstance(item.data, Map) else item.data
            for rule in map(inside, body if isinstance(body, List) else ()):
                if item.path in self.used and isinstance(rule, Map) and isinstance(actions := rule.get("actions"), Map):
                    yield str(actions.get("meter"))

    # ---- files and sections

    def _read(self, file: str) -> None:
        """Read a file and then the files that it includes. A later object replaces an earlier one with the same name."""
        if file not in self.files:
            raise Invalid(file, MISSING, "an include names it")
        self.read.add(normpath(file))
        data = _top(self.reader, self.files[file], file)
        if data.get("version", 2) != 2:
            raise Invalid(f"{file}:{data.lines['version']}: version", data["version"], "2")
        for section in SECTIONS:
            self._section(section, data, file)
        for path, line, required in _included(data, file):
            self._include(path, f"{file}:{line}: include", None if required else _Item(None, file, line, "include-optional"))

    def _section(self, section: str, data: Map, file: str) -> None:
        items = data.get(section, Map())
        if not isinstance(items, Map):
            raise Invalid(f"{file}:{data.lines[section]}: {section}", items, "a mapping of names")
        for key, value in items.items():
            if (old := self.sections[section].get(key)) is not None:
                self._note(old, HARMLESS, f"the one in {file} takes its place")
            self.sections[section][key] = _Item(value, file, items.lines[key], f"{section}.{key}")

    def _include(self, path: str, where: str, optional: _Item | None) -> None:
        """Read an included file. One that may be left out leaves nothing behind when it cannot be read."""
        if path in self.read:
            raise Invalid(where, path, "each file once (FAUCET calls it an include loop)")
        before, notes = {section: dict(items) for section, items in self.sections.items()}, list(self.notes)
        try:
            if path not in self.files:
                raise Invalid(where, path, "a file that there is")
            self._read(path)
        except Invalid as error:
            if optional is None:
                raise
            self.sections, self.notes = before, notes
            self._note(optional, HARMLESS, f"left out, as FAUCET does: {error}")

    def _names(self, section: str) -> dict[Any, str]:
        """Return the objects' names in Warren. Valid names are assigned first, unchanged."""
        items, names = self.sections[section], dict[Any, str]()
        taken: set[str] = set()
        for key in sorted(items, key=lambda key: _fit(key) != str(key)):
            name = _fit(key)
            if name in taken:
                self._note(items[key], self._left_out(items[key]), f"left out: another one is called {name}")
                continue
            taken.add(name)
            names[key] = name
            if name != str(key):
                self._note(items[key], IN_FORCE, f"called {name}: a name has letters, digits, '.', '_' and '-', at most 63")
        return {key: names[key] for key in items if key in names}

    # ---- meters

    def _meter(self, key: Any) -> FaucetMeter | None:
        item = self.sections["meters"][key]
        limit = read_limit(item.data, item.file, item.path, item.line)
        if isinstance(limit, str):
            self._note(item, self._left_out(item), f"left out: {limit}")
            return None
        number = item.data["meter_id"]
        valid = number in METER_IDS
        self._note(
            item, IN_FORCE, f"{limit.rate} {'packets/s' if limit.packets else 'kb/s'}" + "; gets another number" * (not valid)
        )
        return FaucetMeter(self.meters[key], number if valid else None, *limit)

    # ---- ACLs

    def _acl(self, key: Any) -> list[dict[str, Any]] | None:
        """Return the rules of an ACL as they are stored, or None if one of them cannot be. Raises `Invalid` for what FAUCET refuses."""
        item = self.sections["acls"][key]
        rules, path = self._rules(item)
        try:
            stored = [plain(rule) or {"actions": {"allow": 0}} for rule in canonical(rules, path)]  # `rule: {}` drops
        except Invalid as error:
            self._refused(item, error, rules, path)
            stored = []
        parsed = []
        for number, rule in enumerate(stored):
            try:
                parsed.append((parse_rule(rule, f"{path}[{number}]"), rule, number))
            except Invalid as error:
                self._refused(item, error, rules, path)
        parsed = [one for one in parsed if self._metered(item, one[0], one[1], rules.lines[one[2]])]
        if len(parsed) < len(rules):
            self._note(item, self._left_out(item), "left out, because without one of its rules it would mean something else")
            return None
        for rule, _, number in parsed:
            if any(isinstance(port, int) for port in (rule.mirror, *(s.port for s in rule.steps if isinstance(s, ToPort)))):
                text = "the port's number is that of FAUCET's switch: name the endpoint that it shall be"
                self._note(item, self._left_out(item), text, f"{path}[{number}]"[len(item.path) :], rules.lines[number])
        unused = item.path not in self.used
        text = f"{len(stored)} rule{'s' * (len(stored) > 1)}" + ", which nothing uses" * unused
        self._note(item, HARMLESS if unused else IN_FORCE, text)
        self.notes[-1] = replace(self.notes[-1], acl=self.acl_names[key])
        return stored

    def _rules(self, item: _Item) -> tuple[List, str]:
        """Return the rules of an ACL, checked as FAUCET checks them, and their path."""
        rules: Any = item.data
        path = item.path
        if isinstance(rules, Map):
            self._words(item, rules, "")
            check(rules, BODY, item.file, path, item.line)
            if rules.get("exact_match"):
                self._note(item, IN_FORCE, "the first rule that matches wins: exact_match says that only one can", ".exact_match")
            if rules.get("dot1x_assigned"):
                self._note(item, NOT_IN_FORCE, _NO_802_1X, ".dot1x_assigned")
            rules, path = rules.get("rules"), f"{path}.rules"
        if not isinstance(rules, List) or not rules:
            raise Invalid(f"{item.file}:{item.line}: {path}", rules, "a list of at least one rule")
        for number, rule in enumerate(rules):
            inner = inside(rule)
            if isinstance(inner, Map) and isinstance(inner.get("actions"), Map):
                self._words(item, inner["actions"], f"{path}[{number}].actions"[len(item.path) :])
            check_rule(inner, item.file, f"{path}[{number}]", rules.lines[number])
        return rules, path

    def _refused(self, item: _Item, error: Invalid, rules: List, path: str) -> None:
        line = line_of(rules, error.path[len(path) :]) or item.line
        self._note(item, self._left_out(item), str(error).removeprefix(f"{error.path}: "), error.path[len(item.path) :], line)

    def _metered(self, item: _Item, rule: Rule, stored: dict[str, Any], line: int) -> bool:
        if rule.meter is None:
            return True
        if rule.meter in self.meters:
            stored["actions"]["meter"] = self.meters[rule.meter]
            return True
        if rule.meter not in self.sections["meters"] and item.path in self.used:
            raise Invalid(f"{item.file}:{line}: {item.path}", rule.meter, "a meter of the configuration")
        self._note(item, self._left_out(item), f"its meter {rule.meter} is not taken", line=line)
        return False

    def _words(self, item: _Item, data: Map, below: str) -> None:
        for key, word in words(data):
            self._note(item, IN_FORCE, f"{word} is read as {str(data[key]).lower()}", f"{below}.{key}", data.lines[key])

    # ---- uses

    def _uses(self) -> Iterator[tuple[Use, tuple[Any, ...]]]:
        """Return all uses, with FAUCET's names of the ACLs, and a note on everything else in DPs and VLANs."""
        for key, dp in self.sections["dps"].items():
            check(dp.data, DP, dp.file, dp.path, dp.line)
            whole = self._references(dp, "dp_acls")
            if whole:
                yield _use(dp, "host", [key], "acls", "dp_acls"), whole
            ports = dp.data.get("interfaces") or Map()
            for number, data in ports.items():
                port = _Item(data, dp.file, ports.lines[number], f"{dp.path}.interfaces.{number}")
                check(port.data, PORT, port.file, port.path, port.line)
                if acls := self._references(port, "acls_in", "acl_in"):
                    if whole:
                        where = f"{port.file}:{port.line}: {port.path}"
                        raise Invalid(where, MISSING, "no ACLs", problem="ACLs cannot stand beside the dp_acls of the DP")
                    names = [data.get("name"), number, data.get("description")]
                    yield _use(port, "endpoint", names, "acls", "acls_in", "acl_in"), acls
                self._rest(port, "name", "number", "description", "acls_in", "acl_in")
            self._rest(dp, "name", "dp_acls", "interfaces")
        for key, item in self.sections["vlans"].items():
            vlan = item if item.data is not None else item._replace(data=Map())
            check(vlan.data, VLAN, vlan.file, vlan.path, vlan.line)
            for field, *keys in (("default_acl", "acls_in", "acl_in"), ("vlan_out_acl", "acls_out", "acl_out")):
                if acls := self._references(vlan, *keys):
                    names = [vlan.data.get("name"), key, vlan.data.get("vid")]
                    yield _use(vlan, "network", names, field, *keys), acls
            self._rest(vlan, "name", "vid", "acls_in", "acl_in", "acls_out", "acl_out")

    def _references(self, item: _Item, *words: str) -> tuple[Any, ...]:
        """Return FAUCET's names of the ACLs that an object uses, under the new or the old key."""
        present = [word for word in words if item.data.get(word)]
        if not present:
            return ()
        where = f"{item.file}:{item.data.lines[present[-1]]}: {item.path}.{present[-1]}"
        value = item.data[present[0]]
        names = value if isinstance(value, list) else [value]
        if len(present) > 1:
            raise Invalid(where, plain(item.data[present[1]]), f"one of {present[0]} and {present[1]}")
        for name in names:
            if not isinstance(name, str | int) or name not in self.sections["acls"]:
                raise Invalid(where, name, "the name of an ACL of the configuration")
        bodies = [self.sections["acls"][name].data for name in names]
        exact = {isinstance(body, Map) and body.get("exact_match") is True for body in bodies}
        if len(exact) > 1 and words[0] != "dp_acls":
            raise Invalid(where, plain(value), "ACLs that agree on exact_match")
        return tuple(names)

    def _rest(self, item: _Item, *handled: str) -> None:
        """Return a note for each key that has no counterpart in Warren."""
        for key in item.data:
            if key not in handled:
                why = _WHY.get(key, _WHY["dot1x"] if key.startswith("dot1x") else "Warren has no such setting")
                self._note(
                    item, NOT_IN_FORCE if _is_policy(key, item.data[key]) else HARMLESS, why, f".{key}", item.data.lines[key]
                )

    def _taken(self, use: Use, keys: tuple[Any, ...]) -> Use | None:
        gone = next((key for key in keys if key not in self.acls), None)
        why = None
        if gone is not None:
            why = f"its ACL {gone} is left out, and without it the others would mean something else"
        elif len(keys) > LISTS_LIMIT:
            why = f"{len(keys)} ACLs: a list has at most {LISTS_LIMIT}"
        elif use.kind in ("host", "network") and self._has(keys, "in_port"):
            why = "its ACLs match in_port, a port of FAUCET's switch: give them to endpoints"
        elif use.kind == "network" and self._has(keys, "vlan_vid", "dl_vlan"):
            why = "its ACLs match vlan_vid, for which FAUCET puts the VLAN's own: leave it away"
        if why is not None:
            self.notes.append(Note(use.file, use.line, use.path, NOT_IN_FORCE, why))
            return None
        return replace(use, acls=tuple(self.acls[key][0] for key in keys))

    def _has(self, keys: Iterable[Any], *names: str) -> bool:
        return any(name in rule for key in keys for rule in self.acls[key][1] for name in names)


def _is_policy(key: str, value: Any) -> bool:
    """Whether a setting that Warren does not have decides who may send what."""
    if key == "interface_ranges" and isinstance(value, Map):
        return any(isinstance(ports, Map) and any(word in ports for word in ("acl_in", "acls_in")) for ports in value.values())
    if key == "enabled":
        return value is False
    return key.startswith("dot1x") and bool(value)


def _use(item: _Item, kind: str, names: list[Any], field: str, *words: str) -> Use:
    present = next(word for word in words if item.data.get(word))
    distinct = tuple(dict.fromkeys(str(name) for name in names if name not in (None, "")))
    return Use(kind, distinct[0], field, (), item.data.lines[present], distinct[1:], item.file, f"{item.path}.{present}")
