"""warren acl import: a faucet.yaml read from disk, and turned into a document that `apply` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os.path import isfile, normpath
from pathlib import Path
from typing import Any

from acl.faucet.dialect import TEXT_LIMIT
from acl.faucet.reader import includes, read
from acl.faucet.result import IN_FORCE, NOT_IN_FORCE, Import, ImportPart, Note, Use
from tools.cli.client import Failure
from warren.errors import Invalid

FILES_LIMIT = 256
_REMARKS = {"default_acl": " (endpoints with ACLs of their own have those instead)"}


def load(path: str | Path) -> Import:
    """Read a faucet.yaml and the files that it includes. Raises `Failure` for files that cannot be read or that FAUCET would refuse."""
    main = normpath(path)
    texts = {main: _text(main)}
    waiting = [main]
    while waiting:
        file = waiting.pop()
        for included in _included(texts[file], file):
            if included in texts or not isfile(included):
                continue
            if len(texts) >= FILES_LIMIT:
                raise Failure(f"{main}: includes more than {FILES_LIMIT} files")
            texts[included] = _text(included)
            waiting.append(included)
    try:
        return read(texts, main)
    except Invalid as error:
        raise Failure(str(error)) from None


def _included(text: str, file: str) -> tuple[str, ...]:
    try:
        return includes(text, file)
    except Invalid:
        return ()  # `read` reports the mistake with its place, if the file matters


def _text(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            raw = stream.read(TEXT_LIMIT + 1)
        text = raw.decode()
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if len(raw) > TEXT_LIMIT:
        raise Failure(f"{file}: longer than {TEXT_LIMIT} bytes")
    return text


def document(
    imported: Import,
    endpoints: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    hosts: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[Note]]:
    """Return a document of all objects that the import touches, to be applied without prune, and a note for each use.

    A use is imported only if exactly one object has its name or an alias: a guess could put an ACL on the wrong port.
    """
    existing = {"endpoint": endpoints, "network": networks, "host": hosts}
    items: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {kind: {} for kind in existing}
    first: dict[tuple[str, ...], Use] = {}
    notes = []
    for use in imported.uses:
        matching = _matching(use, existing[use.kind])
        if len(matching) != 1:
            notes.append(_note(use, NOT_IN_FORCE, _none(use) if not matching else _several(use, matching)))
            continue
        item = _item(use, matching[0])
        key = (use.kind, item.get("network", ""), item["name"])
        before = items[use.kind].get(key, {})
        if before.get(use.field, item[use.field]) != item[use.field]:
            at = first[*key, use.field]
            text = f"{_called(use, matching[0])} has other ACLs already, from {at.file}:{at.line}"
            notes.append(_note(use, NOT_IN_FORCE, text))
            continue
        items[use.kind][key] = before | item
        first.setdefault((*key, use.field), use)
        notes.append(
            _note(use, IN_FORCE, f"{_called(use, matching[0])}: {use.field} {', '.join(use.acls)}{_REMARKS.get(use.field, '')}")
        )
    data = {
        "acls": [{"name": acl.name, "rules": list(acl.rules)} for acl in imported.acls],
        "meters": [{k: v for k, v in meter._asdict().items() if v is not None} for meter in imported.meters],
        **{f"{kind}s": list(of_kind.values()) for kind, of_kind in items.items()},
    }
    return data, notes


def _matching(use: Use, objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = {use.name, *use.aliases}
    return [candidate for candidate in objects if candidate.get("name") in names]


def _item(use: Use, target: Mapping[str, Any]) -> dict[str, Any]:
    """The document's item for an object: the fields that identify it, and its ACLs."""
    item = {"name": target["name"]}
    if use.kind == "endpoint":
        item |= {"network": target["network"], "host": target["hostname"]}
    elif use.kind == "host":
        item |= {"vtep": target["vtep"]}
    return item | {use.field: list(use.acls)}


def _called(use: Use, target: Mapping[str, Any]) -> str:
    return f"{use.kind} {target['network'] + '/' if use.kind == 'endpoint' else ''}{target['name']}"


def _none(use: Use) -> str:
    return f"no {use.kind} is called {' or '.join((use.name, *use.aliases))}: create it, then import again"


def _several(use: Use, matching: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(sorted(_called(use, candidate).removeprefix(f"{use.kind} ") for candidate in matching))
    return f"several {use.kind}s are called {' or '.join((use.name, *use.aliases))}: {names}"


def _note(use: Use, outcome: ImportPart, text: str) -> Note:
    return Note(use.file, use.line, use.path, outcome, text)


def reconsidered(imported: Import, data: Mapping[str, Any]) -> Iterator[Note]:
    """The notes of the file. An ACL none of whose uses was imported is not in force; the notes of its uses say why."""
    lists = ("acls", "default_acl", "vlan_out_acl")
    attached = {
        name
        for kind in ("endpoints", "networks", "hosts")
        for item in data[kind]
        for field in lists
        for name in item.get(field, ())
    }
    for note in imported.notes:
        idle = note.acl is not None and note.outcome is IN_FORCE and note.acl not in attached
        yield (
            replace(note, outcome=ImportPart.HARMLESS, text=f"{note.text}, which no object of Warren's has yet") if idle else note
        )


def summary(notes: Iterable[Note]) -> Iterator[str]:
    """The lines of the three parts: what is in force, what is not, and what is harmless."""
    by_place = sorted(notes, key=lambda note: (note.file, note.line, note.path))
    for outcome in ImportPart:
        part = [note for note in by_place if note.outcome is outcome]
        yield f"{outcome.value[0].upper()}{outcome.value[1:]} ({len(part)}):"
        yield from (f"  {note.file}:{note.line}: {note.path}: {note.text}" for note in part)
