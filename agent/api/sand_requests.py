"""Reads the bodies of POST /networks and POST /endpoints as SAND's server does. Pure.

SAND decodes JSON into structs of Go: unknown names have no effect, case does not matter, null leaves a field alone, and what follows the
first JSON value is not read. A request that has a field of Warren's own, or says `Prefer: handling=strict` (RFC 7240), is read strictly:
every field must exist and be right. Warren's own clients always say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Interface, ip_interface
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from agent.api.sand import DEFAULT_RANGE, NetworkCreate
from agent.endpoints.request import EndpointCreate
from specs.model.names import is_network_name
from specs.model.network import Network
from specs.model.validation import invalid
from warren.errors import MISSING, Invalid, NotFound

NETWORK_FIELDS = ("id", "name", "type", "ip_range", "gateway")
ENDPOINT_FIELDS = ("network_id", "activate", "activate_params", "ns_handle_path", "ipv4_address", "mac_address")
_STRICT = re.compile(r"(^|[,;\s])handling\s*=\s*\"?strict\b", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class NetworkRequest(NamedTuple):
    """A network to create. `title` is the name that SAND's client gave, which is free text and need not be unique; None in a strict
    request."""

    body: NetworkCreate
    title: str | None


class EndpointRequest(NamedTuple):
    """An endpoint to create. `prefix` is the length that stood behind its address, which must be the network's."""

    body: EndpointCreate
    prefix: IPv4Interface | None


def network_request(raw: bytes, prefer: str = "") -> NetworkRequest:
    """Read the body of POST /networks. Raises `Invalid`."""
    data = parse(raw)
    if _is_strict(data, NETWORK_FIELDS, NetworkCreate, prefer):
        return NetworkRequest(_validated(NetworkCreate, data), None)
    data = _of_fields(data, NETWORK_FIELDS)
    title, gateway = data.get("name"), data.get("gateway")
    if isinstance(title, str) and not is_network_name(title):
        del data["name"]
    if isinstance(gateway, str) and gateway and "/" not in gateway:
        _, _, length = str(data.get("ip_range") or DEFAULT_RANGE).partition("/")
        data["gateway"] = f"{gateway}/{length}"
    body = _validated(NetworkCreate, data)
    return NetworkRequest(body, title or "")


def endpoint_request(raw: bytes, prefer: str = "") -> EndpointRequest:
    """Read the body of POST /endpoints. Raises `Invalid`, and `NotFound` for a network that cannot exist."""
    data = parse(raw)
    if _is_strict(data, ENDPOINT_FIELDS, EndpointCreate, prefer):
        body = _validated(EndpointCreate, data)
        if _STRICT.search(prefer) and body.activate_params is not None:
            body.activate_params.check()
        return EndpointRequest(body, None)
    data, prefix = _of_fields(data, ENDPOINT_FIELDS), None
    if isinstance(params := data.get("activate_params"), Mapping):
        data["activate_params"] = _of_fields(params, ("ns_handle_path",))
    data.setdefault("activate", bool(data.get("ns_handle_path")))  # SAND's README has the path there, and no `activate`
    address = data.get("ipv4_address")
    if isinstance(address, str) and "/" in address:
        prefix = _interface(address)
        data["ipv4_address"] = str(prefix.ip)
    network_id = data.get("network_id") or ""
    exists = not isinstance(network_id, str) or is_network_name(network_id)
    body = _validated(EndpointCreate, data if exists else data | {"network_id": "none"})
    if not body.activate:
        body = body.model_copy(update={"activate_params": None, "ns_handle_path": None})
    elif body.netns is None:
        raise Invalid("activate_params.ns_handle_path", MISSING, "an active endpoint needs it")
    if not exists:
        raise NotFound("network", network_id)
    return EndpointRequest(body, prefix)


def check_prefix(request: EndpointRequest, network: Network) -> None:
    """Raises `Invalid` unless the prefix that stood behind the address is the network's range."""
    if request.prefix is not None and request.prefix.network != network.ip_range:
        raise Invalid("ipv4_address", str(request.prefix), f"an address of {network.ip_range or 'a network with ip_range'}")


def body_schema(model: type[BaseModel], sands: Collection[str]) -> dict[str, Any]:
    """The part of OpenAPI that describes a body which these functions read: SAND's fields may be null, and names that it does not have may
    stand beside them."""
    schema = model.model_json_schema()
    schema = _inlined(
        {name: part for name, part in schema.items() if name not in ("$defs", "additionalProperties")}, schema.get("$defs", {})
    )
    for name in sands:
        schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}
    if model is NetworkCreate:
        schema["properties"]["name"] = {
            "type": ["string", "null"],
            "description": "Free text, if there are only fields of SAND's.",
        }
    return {"requestBody": {"content": {"application/json": {"schema": {"anyOf": [schema, {"type": "null"}]}}}, "required": True}}


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    """A part of a JSON schema with each reference replaced by what it leads to."""
    if isinstance(part, dict):
        target = definitions.get(str(part.get("$ref", "")).rpartition("/")[2])
        return _inlined(target, definitions) if target else {name: _inlined(each, definitions) for name, each in part.items()}
    return [_inlined(each, definitions) for each in part] if isinstance(part, list) else part


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object that a body begins with, as Go decodes it: null is an empty object, bytes that are no UTF-8 are replaced. Raises
    `Invalid`."""
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise Invalid("body", MISSING, "it is required")
    try:
        data, _ = _DECODER.raw_decode(text)
    except RecursionError:
        raise Invalid("body", MISSING, "a JSON object", problem="it is nested too deeply") from None
    except ValueError as error:
        raise Invalid("body", MISSING, "a JSON object", problem=f"it is not JSON: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise Invalid("body", data, "a JSON object")
    return {_text(key): _text(value) for key, value in data.items()}


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _text(value: Any) -> Any:
    """Replace half surrogate pairs, which nothing can store."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_text(key): _text(each) for key, each in value.items()}
    return [_text(each) for each in value] if isinstance(value, list) else value


def _is_strict(data: Mapping[str, Any], sands: Collection[str], model: type[BaseModel], prefer: str) -> bool:
    warrens_fields = {name.casefold() for name in model.model_fields if name not in sands}
    return bool(_STRICT.search(prefer)) or any(key.casefold() in warrens_fields for key in data)


def _of_fields(data: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The fields of these names, in any case; the last of several counts."""
    folded = {name.casefold(): name for name in names}
    return {folded[key.casefold()]: value for key, value in data.items() if key.casefold() in folded and value is not None}


def _interface(address: str) -> IPv4Interface:
    try:
        interface = ip_interface(address)
    except ValueError:
        interface = None
    if not isinstance(interface, IPv4Interface):
        raise Invalid("ipv4_address", address, "an IPv4 address, such as 10.0.0.2 or 10.0.0.2/24")
    return interface


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], data: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None
