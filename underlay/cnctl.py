"""`cnctl`: prints the metadata that the daemon serves, with cloud-network's words and layout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from underlay import layout
from underlay.config import PATH, load
from underlay.rest import NO_CREDENTIALS, PREFIX
from warren import __version__
from warren.errors import Invalid, Unavailable, WarrenError

TIMEOUT_S = 10.0
HELP = """cnctl: prints the metadata of this instance, as warren-underlay has read it.

  cnctl status system          the instance                              (s system)
  cnctl status network         its interfaces                            (s network)
  cnctl status underlay        what Warren made of them, and problems    (s underlay)
  cnctl show ssh-keys          keys of logins                            (k)
  cnctl show document          EC2: the identity document, and its       (d)
             pkcs7, signature, rsa2048     signatures                    (p, s, r)
  cnctl show project           GCP: the project
  cnctl show credentials       says why there are none                   (c)

The daemon's address is read from /etc/cloud-network/cloud-network.toml ($CLOUD_NETWORK_CONFIG).
"""
_ALIASES = {
    "status": {},
    "show": {"k": "ssh-keys", "c": "credentials", "d": "document", "p": "pkcs7", "s": "signature", "r": "rsa2048"},
}
_WORDS = {
    "status": ("system", "network", "underlay"),
    "show": ("ssh-keys", "credentials", "document", "pkcs7", "signature", "rsa2048", "project"),
}  # fmt: skip
_ONLY = {"project": "gcp", "document": "aws", "pkcs7": "aws", "signature": "aws", "rsa2048": "aws"}


def main(words: Sequence[str] | None = None) -> None:
    """Print the requested metadata. Exit with status 2 and one line on standard error if that is not possible."""
    arguments = list(sys.argv[1:] if words is None else words)
    if not arguments or arguments[0] in ("-h", "--help", "help", "h"):
        print(HELP, end="")
        return
    if arguments[0] in ("-v", "--version"):
        print(f"Version={__version__}")
        return
    try:
        print(_output(*_command(arguments)), end="")
    except WarrenError as error:
        print(f"cnctl: {error}", file=sys.stderr)
        sys.exit(2)


def _command(arguments: list[str]) -> tuple[str, str]:
    """Return the command and its object. Raises `Invalid`."""
    command = {"s": "status"}.get(arguments[0], arguments[0])
    if command not in _WORDS:
        raise Invalid("command", arguments[0], "status or show")
    word = arguments[1] if len(arguments) > 1 else ""
    word = _ALIASES[command].get(word, word)
    if word not in _WORDS[command] or len(arguments) > 2:
        raise Invalid(command, " ".join(arguments[1:]), " or ".join(_WORDS[command]))
    return command, word


def _output(command: str, word: str) -> str:
    if word == "credentials":
        raise Unavailable("credentials", NO_CREDENTIALS)
    address = load(Path(os.environ.get("CLOUD_NETWORK_CONFIG") or PATH), {}).listen
    if word == "underlay":
        return _underlay(_get(address, "status"))
    system = _get(address, "system")
    cloud = layout.cloud_of(system)
    if _ONLY.get(word, cloud) != cloud:
        raise Invalid(f"{command} {word}", cloud, f"an instance of {_ONLY[word]}")
    if word == "network":
        return layout.network(cloud, _get(address, "network"), _names(Path("/sys/class/net")))
    if word in ("document", "pkcs7", "signature", "rsa2048"):
        content = _get(address, f"dynamicinstanceidentity/{word}")
        return layout.document(content) if word == "document" else f"{content}\n"
    return {"system": layout.system, "ssh-keys": layout.ssh_keys, "project": layout.project}[word](system)


def _get(address: tuple[str, int], name: str) -> Any:
    """Return a document of the daemon. Raises `Unavailable`."""
    connection = HTTPConnection(*address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{PREFIX}/{name}")
        response = connection.getresponse()
        document = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise Unavailable("warren-underlay", f"{address[0]}:{address[1]}: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        reason = document.get("error") if isinstance(document, Mapping) else None
        raise Unavailable("warren-underlay", str(reason or f"status {response.status}"))
    return document


def _names(directory: Path) -> dict[str, str]:
    """Return the names of links by their MACs; the first of several with one MAC."""
    names: dict[str, str] = {}
    for path in sorted(directory.iterdir(), key=_index):
        try:
            names.setdefault((path / "address").read_text().strip(), path.name)
        except OSError:
            continue
    return names


def _index(path: Path) -> int:
    try:
        return int((path / "ifindex").read_text())
    except (OSError, ValueError):
        return 1 << 31


def _underlay(status: Any) -> str:
    """Return the daemon's own status as text."""
    location = status["location"] or {}
    lines = [f"       Site: {location.get('site', 'unknown: the metadata were not read yet')}"]
    for nic in status["nics"]:
        lines += [
            "",
            f"       Name: {nic['link'] or 'no interface has its MAC'}",
            f"MAC Address: {nic['mac']}",
            f"  Addresses: {' '.join(nic['addresses'])}",
        ]
        lines += [f"   Prefixes: {' '.join(nic['prefixes'])}"] if nic["prefixes"] else []
        lines += (
            [f"     Public: {' '.join(f'{private}={public}' for private, public in nic['public'].items())}"]
            if nic["public"]
            else []
        )
    lines += [f"    Problem: {problem}" for problem in status["problems"]]
    lines += [f"    Differs: {phrase}" for phrase in status["differences"]]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
