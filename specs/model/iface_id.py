"""Ids by which hypervisors name the interfaces of virtual machines in Open vSwitch's database (`external_ids:iface-id`). Pure."""

from __future__ import annotations

import re
import uuid
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/+-]{0,127}\Z")
_PATTERN = re.compile(r"[A-Za-z0-9_.:@/+*?-]{1,128}\Z")
_UUID = re.compile(r"[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\Z")


def canonical(text: str) -> str:
    """An id as Warren compares it: a UUID has several spellings, of which libvirt writes the one with dashes and small letters."""
    return str(uuid.UUID(text)) if _UUID.match(text) else text


def _id(value: str) -> str:
    if not _ID.match(value):
        raise ValueError("the id that the hypervisor gives the interface, such as b58dd804-5bcd-4504-abce-910512244654")
    return canonical(value)


def _pattern(value: str) -> str:
    if not _PATTERN.match(value):
        raise ValueError("the id of an interface, with * for any characters and ? for one; * alone for every id")
    return canonical(value)


IfaceId = Annotated[str, AfterValidator(_id)]
IfaceIdPattern = Annotated[str, AfterValidator(_pattern)]


def matches(iface_id: str | None, pattern: str | None) -> bool:
    """Whether a port with that id (None: without) is among those of a pattern (None: any port)."""
    return pattern is None or (iface_id is not None and fnmatchcase(iface_id, pattern))
