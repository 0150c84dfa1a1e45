"""The store as a document. Pure; `warren export` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from specs.documents.document import SECTIONS
from specs.model.base import Item, Record
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot

FIRST = ("name", "id", "network", "host")  # the fields by which a reader knows a record
ALWAYS = ("hosts", "networks", "endpoints")  # sections that a document has even if they are empty


def export(current: Snapshot) -> str:
    """The whole store as YAML text; applied to an empty store it gives the same records."""
    network_names = {network.id: network.name for network in current.networks.values()}
    document: dict[str, list[dict[str, Any]]] = {}
    for section, kind in SECTIONS.items():
        items = [_item(kind, record, network_names) for record in _records(section, current)]
        if items or section in ALWAYS:
            document[section] = items
    return as_yaml(document)


def as_yaml(data: Any) -> str:
    """Return plain data as YAML: a field a line, fields in their order."""
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=False, width=160, allow_unicode=True)


def _records(section: str, current: Snapshot) -> Iterable[Record]:
    """The records of a section in the order of the document. Endpoints that nobody has declared are left out."""
    if section == "networks":
        return sorted(current.networks.values(), key=lambda n: (n.name, n.id))
    if section == "endpoints":
        declared = (e for e in current.endpoints.values() if e.declared)
        return sorted(declared, key=lambda e: (e.network_id, e.name or "", e.id))
    records: Mapping[str, Record] = current.adoptions if section == "adopt" else getattr(current, section)
    return [record for _, record in sorted(records.items())]


def _item(kind: type[Item], record: Record, network_names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a record that an item of its kind has, without those that are empty."""
    data = record.data()
    if isinstance(record, Endpoint):
        data["network"] = network_names.get(record.network_id, record.network_id)
        if record.leased_prefix is not None:
            data.pop("ipv4_address", None)  # an external DHCP server leased it: a document must not pin it
        if record.iface_id is not None:
            data.pop("device", None)  # where the hypervisor has put it now
    fields = (*FIRST, *(field for field in kind.model_fields if field not in FIRST))
    return {field: data[field] for field in fields if field in kind.model_fields and data.get(field) not in (None, {}, [], "")}
