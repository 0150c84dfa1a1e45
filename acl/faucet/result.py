"""What a faucet.yaml holds for Warren, and what becomes of each part of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class FaucetAcl(NamedTuple):
    """An ACL with its rules in stored form."""

    name: str
    rules: tuple[dict[str, Any], ...]
    line: int


class FaucetMeter(NamedTuple):
    """A meter in kb/s and kb, or in packets. `meter_id` is None when FAUCET's id is outside Warren's range."""

    name: str
    meter_id: int | None
    rate: int
    burst: int
    packets: bool


@dataclass(frozen=True, slots=True)
class Use:
    """An attachment of ACLs: `field` of the endpoint, network or host with this name or one of the aliases."""

    kind: str
    name: str
    field: str
    acls: tuple[str, ...]
    line: int
    aliases: tuple[str, ...] = ()
    file: str = ""
    path: str = ""


class ImportPart(Enum):
    """What becomes of a part of a file: policy that counts, policy that does not, and what is no policy, or none that anything uses."""

    IN_FORCE = "in force"
    NOT_IN_FORCE = "NOT in force"
    HARMLESS = "harmless"


@dataclass(frozen=True, slots=True)
class Note:
    """The outcome of importing one object of a file."""

    file: str
    line: int
    path: str
    outcome: ImportPart
    text: str
    acl: str | None = None  # Warren's name of the ACL whose rules it counts


@dataclass(frozen=True, slots=True)
class Import:
    """The content of a faucet.yaml for Warren."""

    acls: tuple[FaucetAcl, ...] = ()
    meters: tuple[FaucetMeter, ...] = ()
    uses: tuple[Use, ...] = ()
    notes: tuple[Note, ...] = ()


IN_FORCE, NOT_IN_FORCE, HARMLESS = ImportPart
