"""Turns a container's name and labels into fields of its endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.docker.engine import Container
from agent.docker.options import ENDPOINT_OPTIONS, MIRRORED, options_among, read
from specs.model.endpoint import Endpoint
from specs.model.names import is_name
from specs.model.network import Network

SERVICE = "com.docker.compose.service"  # compose's label with the name by which its services know each other
_MIRROR_NAMES = {name for option in ENDPOINT_OPTIONS for name in option.names if option.field == "mirror"}


def described(endpoint: Endpoint, network: Network, container: Container, host: str) -> Endpoint:
    """Return an endpoint with its container's name and labels. Options that `docker run` gave for this network take
    precedence."""
    options = read(ENDPOINT_OPTIONS, options_among(container.labels), (container.network, *network.references))
    labels = {k: v for k, v in container.labels.items() if k not in _MIRROR_NAMES}
    if options.pop("mirror", False):
        labels[MIRRORED] = host
    prefix = options.pop("mac_prefix", None)
    if endpoint.acls is not None:
        options.pop("acls", None)
    if endpoint.name is None:
        options.setdefault("name", container.name)
    else:
        options.pop("name", None)
    if network.dns_server and SERVICE in container.labels:
        options["aliases"] = [*options.get("aliases", endpoint.aliases), *filter(is_name, (container.labels[SERVICE],))]
    fields = {**as_record(options), "labels": {**labels, **endpoint.labels}, "labelled": True}
    if prefix is not None:
        fields["mac_address"] = prefixed(prefix, endpoint.mac_address)
    return endpoint.model_copy(update=fields)


def prefixed(prefix: str, mac: str) -> str:
    """Return a MAC with its first bytes replaced."""
    return prefix + mac[len(prefix) :]


def as_record(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as the record stores them."""
    probe = Endpoint(id="x", network_id="x", host="x", mac_address="02:00:00:00:00:01", ofport=1, **fields)
    return {name: getattr(probe, name) for name in fields}
