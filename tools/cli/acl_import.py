"""warren acl import: a faucet.yaml read from disk, and turned into a document that `apply` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os.path import isfile, normpath
from pathlib import Path
from typing import Any

from acl.faucet.dialect import TEXT_LIMIT
from acl.faucet.reader import Import, Note, Use, includes, read
from tools.cli.client import Failure
from warren.errors import Invalid

FILES_LIMIT = 256


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
    """A document of all that the import touches, to be applied without prune, and a note for each use.

    A use is taken only if exactly one object has its name or an alias: nobody should guess which object FAUCET's port stands for.
    """
    existing = {"endpoint": endpoints, "network": networks, "host": hosts}
    items: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {kind: {} for kind in existing}
    first: dict[tuple[str, ...], Use] = {}
    notes = []
    for use in imported.uses:
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


def _note(use: Use, taken: bool, text: str) -> Note:
    return Note(use.file, use.line, use.path, taken, text)
