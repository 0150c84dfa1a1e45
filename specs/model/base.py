"""What all kinds of records share: the types of their fields, the base classes of records and document items, decoding. Pure.

A record is a frozen value. Field names are SAND's where SAND has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from specs.model.names import EXPECTED, is_name, is_network_name
from specs.model.validation import invalid
from warren.errors import Invalid

VNI_FIRST, VNI_LAST = 1, 16_777_215
ACLS_LIMIT = 16  # in one list

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_IFNAME = re.compile(r"[^\s/:]{1,15}\Z")


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError("a name of letters, digits, '.', '_' or '-', at most 63, beginning with a letter or digit")
    return value


def _mac(value: Any) -> str:
    text = str(value).lower().replace("-", ":")
    if not isinstance(value, str) or not _MAC.match(text):
        raise ValueError("a MAC address such as 02:57:0a:00:00:02")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError("a unicast MAC address (the first byte even, not all zero)")
    return text


def _ifname(value: str) -> str:
    if not _IFNAME.match(value) or value in (".", ".."):
        raise ValueError("an interface name of 1 to 15 characters without '/', ':' or white space")
    return value


def require_text(value: Any) -> Any:
    """Refuses a number or a truth value, which YAML makes of an unquoted word: pydantic would take a number as an address."""
    if isinstance(value, (int, float, bool)):
        raise ValueError("text (quote the value)")
    return value


def _path(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("the path of a file")
    return value


def _acl_names(value: Any) -> Any:
    """One name or a list; In FAUCET's files a name may be a number."""
    items = [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value
    if not isinstance(items, list | tuple) or len(items) > ACLS_LIMIT:
        raise ValueError(f"the name of an ACL, or a list of at most {ACLS_LIMIT}")
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items)


def _acl_reference(value: str) -> str:
    network, _, name = value.rpartition(":")
    if network and not is_network_name(network):
        raise ValueError(EXPECTED)
    _name(name)
    return value


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth_value)]  # Python takes True for 1
Flag = Annotated[bool, Strict()]  # pydantic would take 1, "on" and others for True
FilePath = Annotated[str, AfterValidator(_path)]
Name = Annotated[str, AfterValidator(_name)]
Mac = Annotated[str, BeforeValidator(_mac)]
IfName = Annotated[str, AfterValidator(_ifname)]
Vni = Annotated[Whole, Field(ge=VNI_FIRST, le=VNI_LAST)]
Vlan = Annotated[Whole, Field(ge=1, le=4094)]
Mtu = Annotated[Whole, Field(ge=576, le=65_535)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(require_text)]
Labels = dict[str, str]
_ONE = {"type": ["string", "integer"]}
_ACLS_SCHEMA = WithJsonSchema({"anyOf": [{"type": "array", "items": _ONE, "maxItems": ACLS_LIMIT}, _ONE]})
AclNames = Annotated[tuple[Name, ...], BeforeValidator(_acl_names), _ACLS_SCHEMA]
AclReferences = Annotated[tuple[Annotated[str, AfterValidator(_acl_reference)], ...], BeforeValidator(_acl_names), _ACLS_SCHEMA]


class Record(BaseModel):
    """The base of all records: frozen; unknown fields are refused; absent fields are left out of the JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> str:
        """The canonical JSON that is stored in etcd."""
        return json.dumps(self.data(), sort_keys=True, separators=(",", ":"))

    def data(self) -> dict[str, Any]:
        """Plain data (for JSON and YAML); fields that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True)


class NestedValue(BaseModel):
    """The base of values inside a record: null stands for the default of a field that has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        nulls = _nulls(cls, data)
        return {field: value for field, value in data.items() if field not in nulls} if nulls else data


class Item(BaseModel):
    """The base of all document items: some of the fields of a record. Null takes the value of a field away."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    _taken_away: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _null_takes_away(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        nulls = _nulls(cls, data)
        if not nulls:
            return validate(data)
        item = validate({field: value for field, value in data.items() if field not in nulls})
        item._taken_away = nulls
        return item

    def stated(self) -> dict[str, Any]:
        """The fields that the document states, as plain data; None for null. Values inside a field are complete, as in a record."""
        whole = self.model_dump(mode="json")
        return {field: whole[field] for field in whole if field in self.model_fields_set} | dict.fromkeys(self._taken_away)


def _nulls(model: type[BaseModel], data: Any) -> frozenset[str]:
    """The fields of plain data that are null and have a default."""
    if not isinstance(data, dict):
        return frozenset()
    fields = model.model_fields
    return frozenset(name for name, value in data.items() if value is None and name in fields and not fields[name].is_required())


ALLOCATED = ("id", "vxlan_vni", "meter_id", "ofport")


def restated(old: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record, as plain data, after a document has stated some of them. Null takes a value away; what is allocated stays."""
    data = {field: value for field, value in old.items() if field in ALLOCATED or stated.get(field, value) is not None}
    return data | {field: value for field, value in stated.items() if value is not None}


def now() -> str:
    """The time for `created_at`: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


R = TypeVar("R", bound=Record)


def decode(kind: type[R], data: Any, path: str = "") -> R:
    """Validate plain data as a record. Raises `Invalid` with the path to the first wrong value."""
    if not isinstance(data, dict):
        raise Invalid(path or kind.__name__.lower(), data, f"a mapping with the fields of a {kind.__name__.lower()}")
    try:
        record = kind.model_validate(data)
    except ValidationError as error:
        raise invalid(error, path) from None
    except Invalid as error:  # from the language of ACLs, whose errors have paths
        raise error.at(f"{path}.{error.path}".strip(".")) from None
    record.model_fields_set.clear()  # not used for records; 10 000 sets of names take 5 MB
    return record


def decode_json(kind: type[R], text: str, path: str = "") -> R:
    """Like `decode`, from the JSON text that etcd holds."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Invalid(path, text, f"JSON ({error})") from None
    return decode(kind, data, path)
