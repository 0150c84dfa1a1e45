"""The state files of cloud-network: /run/cloud-network/system, and links/IFINDEX with the metadata of that NIC. Each is replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTORY = Path("/run/cloud-network")
MODE = 0o640


def prepare(directory: Path, owner: tuple[int, int] | None) -> None:
    """Make the directories; `owner` gets them. Raises `OSError`."""
    for path in (directory, directory / "links"):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(path, *owner)
            for file in path.iterdir():
                if file.is_file() and not file.is_symlink():  # of an earlier run as another user
                    os.chown(file, *owner)


def save(directory: Path, system: Any, links: Mapping[int, Any]) -> None:
    """Write the files that differ, and remove those of links that are gone. Raises `OSError`."""
    _write(directory / "system", system)
    for index, document in links.items():
        _write(directory / "links" / str(index), document)
    for path in (directory / "links").iterdir():
        if path.name.lstrip(".").split(".")[0].isdigit() and path.name not in {str(index) for index in links}:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _write(path: Path, document: Any) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text and path.stat().st_mode & 0o777 == MODE:
            return
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), MODE)  # whatever the umask is
        file.write(text)
    temporary.replace(path)
