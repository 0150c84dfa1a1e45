"""Names of objects. Those of networks are NAME or TENANT/NAME, unique within the tenant. Pure.

Every network of a tenant is found by TENANT/NAME. One that was created without the prefix has the short name, too, if no other network had it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator

from warren.errors import Invalid

DEFAULT = "default"  # the tenant of networks that name none
SEPARATOR = "/"
NAME_LIMIT = 63  # characters

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
EXPECTED = (
    "a name of letters, digits, '.', '_' or '-', at most 63, beginning with a letter or digit; or TENANT/NAME, both of that kind (those of tenant "
    f"{DEFAULT} have no prefix)"
)


def is_name(text: str) -> bool:
    """Whether a text can be the name or the id of an object."""
    return _NAME.match(text) is not None


def is_network_name(text: str) -> bool:
    """Whether a text can be the name of a network."""
    tenant, slash, name = text.rpartition(SEPARATOR)
    return is_name(name) and (is_name(tenant) and tenant != DEFAULT if slash else True)


def _network_name(value: str) -> str:
    if not is_network_name(value):
        raise ValueError(EXPECTED)
    return value


NetworkName = Annotated[str, AfterValidator(_network_name)]


def tenant_in(name: str) -> str | None:
    """The tenant that a network's name begins with."""
    return name.rpartition(SEPARATOR)[0] or None


def short(name: str) -> str:
    """A network's name without its tenant."""
    return name.rpartition(SEPARATOR)[2]


def full(name: str, tenant: str | None) -> str:
    """TENANT/NAME of a network; of the tenant `default` the name alone."""
    return name if SEPARATOR in name or tenant in (None, DEFAULT) else f"{tenant}{SEPARATOR}{name}"


def names_of(name: str, tenant: str | None) -> tuple[str, ...]:
    """All names that find a network: its own, and TENANT/NAME."""
    return tuple(dict.fromkeys((name, full(name, tenant))))


def near(reference: str, names: Iterable[str]) -> list[str]:
    """The names that somebody may have meant who named a network that does not exist: those of other tenants, or of none."""
    return sorted({name for name in names if short(name) == short(reference) != ""})


def with_tenant(data: Any) -> Any:
    """The fields of a network with the tenant that its name begins with. Raises `Invalid` if they state another one."""
    if not isinstance(data, dict) or not isinstance(name := data.get("name"), str) or (tenant := tenant_in(name)) is None:
        return data
    if data.get("tenant") not in (None, tenant):
        raise Invalid("tenant", data["tenant"], f"{tenant}, or no tenant: the name is {name}")
    return {**data, "tenant": tenant}
