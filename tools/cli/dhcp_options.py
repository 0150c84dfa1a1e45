"""Parses options of `warren network create` about DHCP that take several values, into fields of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.cli.client import Failure


def boot(server: str | None, file: str | None, files: Sequence[str], root_path: str | None) -> dict[str, Any] | None:
    """The field `boot`, or None without any of its options. Raises `Failure`."""
    if server is None:
        if file or files or root_path:
            raise Failure(
                "--boot-file, --boot-file-for and --root-path need --boot-server ADDRESS, the server that has the files"
            )
        return None
    by_kind = dict(_pair("--boot-file-for", each, "KIND=FILE, such as efi-x86_64=ipxe.efi") for each in files)
    fields = {"server": server, "file": file, "files": by_kind or None, "root_path": root_path}
    return {name: value for name, value in fields.items() if value is not None}


def reservations(texts: Sequence[str]) -> list[dict[str, str]] | None:
    """The field `reservations`, or None without an option. Raises `Failure`."""
    reserved: list[dict[str, str]] = []
    for text in texts:
        mac, addresses = _pair("--reserve", text, "MAC=ADDRESS[,ADDRESS], such as 52:54:00:00:00:01=10.0.0.11")
        fields = {"mac": mac}
        for address in addresses.split(","):
            fields["ipv6_address" if ":" in address else "ipv4_address"] = address
        reserved.append(fields)
    return reserved or None


def pool(text: str | None) -> dict[str, Any] | str | None:
    """The field `dhcp_pool`, or None without the option. Raises `Failure`."""
    if text is None or text == "none":
        return text
    span, _, seconds = text.partition(",")
    first, dash, last = span.partition("-")
    if not dash or (seconds and not seconds.isdecimal()):
        raise Failure(f"--dhcp-pool {text}: FIRST-LAST[,SECONDS], such as 10.0.0.100-10.0.0.199,30, or none")
    return {"first": first, "last": last} | ({"lease_s": int(seconds)} if seconds else {})


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise Failure(f"{option} {text}: {form}")
    return left, right
