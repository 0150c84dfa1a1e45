"""warren acl import: a faucet.yaml read from disk, and turned into a document that `apply` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os.path import isfile, normpath
from pathlib import Path
from typing import Any

from acl.faucet.reader import Import, Note, Use, includes, read
from acl.faucet.yaml import TEXT_LIMIT
from tools.cli.client import Failure
from warren.errors import Invalid

FILES_LIMIT = 256


def load(path: str | Path) -> Import:
    """Reads a faucet.yaml and what it includes. Raises `Failure` for what cannot be read, or what FAUCET refuses."""
    main = normpath(path)
    texts = {main: _text(main)}
    waiting = [main]
    while waiting:
        file = waiting.pop()
        for found in _included(texts[file], file):
            if found in texts or not isfile(found):
                continue
            if len(texts) >= FILES_LIMIT:
                raise Failure(f"{main}: includes more than {FILES_LIMIT} files")
            texts[found] = _text(found)
            waiting.append(found)
    try:
        return read(texts, main)
    except Invalid as error:
        raise Failure(str(error)) from None


def _included(text: str, file: str) -> tuple[str, ...]:
    try:
        return includes(text, file)
    except Invalid:
        return ()  # `read` knows whether the file may be wrong, and says where


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
    found: Import,
    endpoints: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    hosts: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[Note]]:
    """The document (to be applied without prune: it has only what the import touches), and a note for each use.

    A use needs exactly one object that has its name or an alias: which one FAUCET's port stands for is not to be guessed.
    """
    existing = {"endpoint": endpoints, "network": networks, "host": hosts}
    items: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {kind: {} for kind in existing}
    first: dict[tuple[str, ...], Use] = {}
    notes = []
    for use in found.uses:
        matching = _matching(use, existing[use.kind])
        if len(matching) != 1:
            notes.append(_note(use, False, _none(use) if not matching else _several(use, matching)))
            continue
        item = _item(use, matching[0])
        key = (use.kind, item.get("network", ""), item["name"])
        before = items[use.kind].get(key)
        if before is not None and before != item:
            text = f"{_called(use, matching[0])} has other ACLs already, from {first[key].file}:{first[key].line}"
            notes.append(_note(use, False, text))
            continue
        items[use.kind][key] = item
        first.setdefault(key, use)
        notes.append(_note(use, True, f"{_called(use, matching[0])}: {use.field} {', '.join(use.acls)}"))
    data = {
        "acls": [{"name": acl.name, "rules": list(acl.rules)} for acl in found.acls],
        "meters": [{k: v for k, v in meter._asdict().items() if v is not None} for meter in found.meters],
        **{f"{kind}s": list(of_kind.values()) for kind, of_kind in items.items()},
    }
    return data, notes


def _matching(use: Use, objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = {use.name, *use.aliases}
    return [found for found in objects if found.get("name") in names]


def _item(use: Use, found: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies the object in a document, and its ACLs."""
    item = {"name": found["name"]}
    if use.kind == "endpoint":
        item |= {"network": found["network"], "host": found["hostname"]}
    elif use.kind == "host":
        item |= {"vtep": found["vtep"]}
    return item | {use.field: list(use.acls)}


def _called(use: Use, found: Mapping[str, Any]) -> str:
    return f"{use.kind} {found['network'] + '/' if use.kind == 'endpoint' else ''}{found['name']}"


def _none(use: Use) -> str:
    return f"no {use.kind} is called {' or '.join((use.name, *use.aliases))}: create it, then import again"


def _several(use: Use, matching: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(sorted(_called(use, found).removeprefix(f"{use.kind} ") for found in matching))
    return f"several {use.kind}s are called {' or '.join((use.name, *use.aliases))}: {names}"


def _note(use: Use, taken: bool, text: str) -> Note:
    return Note(use.file, use.line, use.path, taken, text)
