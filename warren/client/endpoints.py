"""Endpoints, interfaces of hosts on networks, and published ports."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from warren.client.calls import Operation, delete, endpoint_path, get, post, stated
from warren.client.errors import Conflict, Invalid, NotFound, Refused
from warren.client.hosts import apply, find_host
from warren.client.networks import find_network
from warren.client.results import (
    Applied,
    Endpoint,
    PublishedPort,
    all_of,
)

PUBLISH_WAIT_S = 20.0


def endpoints(
    network: str | None = None, host: str | None = None, *, states: bool = False, tenant: str | None = None
) -> Operation[tuple[Endpoint, ...]]:
    """Endpoints of all hosts, or only those of a network, a host or a tenant; with `states` also what the controllers report of them. Raises `NotFound` for
    a network or host that does not exist."""
    filters = stated(network_id=network, hostname=host, states=states or None, tenant=tenant)
    listed = all_of(Endpoint, (yield get("/endpoints", **filters)), "endpoints")
    if not listed and network is not None:  # an unknown network has no endpoints, as in SAND
        yield from find_network(network)
    if not listed and host is not None:
        yield from find_host(host)
    return listed


def endpoint(ref: str) -> Operation[Endpoint]:
    """One endpoint with its state, by name, NETWORK/NAME or id."""
    return (yield from _find_endpoint(ref))


def _find_endpoint(ref: str) -> Operation[Endpoint]:
    try:
        return Endpoint.of((yield get(endpoint_path(ref))).get("endpoint"))
    except NotFound as error:
        if error.what is not None:
            raise
        for candidate in (yield from endpoints()):  # SAND only lists them
            if ref == candidate.id:
                return candidate
        raise


def create_endpoint(
    network: str,
    *,
    netns: str | None = None,
    name: str | None = None,
    host: str | None = None,
    ipv4: str | None = None,
    ipv6: str | None = None,
    mac: str | None = None,
    interface: str | None = None,
    parent: str | None = None,
    vlan: int | None = None,
    acls: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    allowed: Sequence[str] | None = None,
    aliases: Sequence[str] | None = None,
    set_addresses: bool = True,
    machine: str | None = None,
    pid: int | None = None,
    keep_netns: bool = False,
    device: str | None = None,
    iface_id: str | None = None,
) -> Operation[Endpoint]:
    """Plug the namespace at the path `netns` into a network; returns when packets can flow. Instead of the path, `machine` is the name of a
    container that systemd-machined knows, `pid` that of a process in the container. With `keep_netns` Warren makes the namespace. `device` is an interface
    of the host that somebody else has made, such as a tap; `iface_id` the id under which a hypervisor puts one on the bridge, now or later. Without any only the record is made.
    `allowed` are addresses and ranges that it may have besides its own, as ADDRESS or ADDRESS,MAC; `aliases` are more names of it for
    name servers."""
    body = stated(
        network_id=(yield from find_network(network)).id,
        name=name,
        hostname=host,
        ipv4_address=ipv4,
        ipv6_address=ipv6,
        mac_address=mac,
        interface=interface,
        parent=parent,
        vlan=vlan,
        acls=acls,
        labels=labels,
        allowed=allowed,
        aliases=aliases,
        machine=machine,
        device=device,
        iface_id=iface_id,
        pid=pid,
        keep_netns=keep_netns or None,
        activate=any(value is not None for value in (netns, machine, pid, device, iface_id)),
    )
    if netns is not None:
        body["activate_params"] = stated(ns_handle_path=netns)
    if body["activate"] and not set_addresses:
        body["set_addresses"] = False
    return Endpoint.of((yield post("/endpoints", body)).get("endpoint"))


def delete_endpoint(ref: str, *, force: bool = False) -> Operation[None]:
    """Unplug and forget an endpoint, on whichever host it is. `force` deletes the record of an endpoint whose host is dead."""
    yield from _delete_endpoint((yield from _find_endpoint(ref)), force)


def _delete_endpoint(endpoint: Endpoint, force: bool = False) -> Operation[None]:
    yield delete(endpoint_path(endpoint.id), hostname=endpoint.host or None, force=force or None)


def ports(host: str | None = None, tenant: str | None = None) -> Operation[tuple[Endpoint, ...]]:
    """The interfaces of hosts that are on networks: the endpoints with a `port`."""
    return tuple(endpoint for endpoint in (yield from endpoints(host=host, states=True, tenant=tenant)) if endpoint.port)


def add_port(
    interface: str,
    network: str,
    *,
    host: str | None = None,
    vlan: int | None = None,
    acls: Sequence[str] | None = None,
    ofport: int | None = None,
    coprocessor: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Operation[Endpoint]:
    """Put an interface of a host (the agent's own, unless `host`) on a network; with `vlan`, only frames with that tag."""
    network_id = (yield from find_network(network)).id
    body = stated(
        network_id=network_id,
        hostname=host,
        port=interface,
        vlan=vlan,
        acls=acls,
        ofport=ofport,
        coprocessor=coprocessor,
        name=name,
    )
    return Endpoint.of((yield post("/endpoints", body)).get("endpoint"))


def remove_port(interface: str, network: str, *, host: str | None = None) -> Operation[None]:
    """Take an interface of a host off a network. Raises `NotFound`, and `Invalid` when several hosts have it on the network."""
    ports = [e for e in (yield from endpoints(host=host)) if e.port == interface]
    candidates = [e for e in ports if network in (e.network, e.network_id)]
    if ports and not candidates:  # by another of its names
        network_id = (yield from find_network(network)).id
        candidates = [e for e in ports if e.network_id == network_id]
    if not candidates:
        where = f" of {host}" if host else ""
        raise NotFound(
            f"no {interface}{where} is on network {network}", detail={"kind": "not_found", "what": "port", "name": interface}
        )
    if len(candidates) > 1:
        hosts = ", ".join(candidate.host for candidate in candidates)
        raise Invalid(
            f"{interface} is on network {network} on several hosts ({hosts}): name one",
            detail={"kind": "invalid", "path": "host"},
        )
    yield from _delete_endpoint(candidates[0])


def publish(endpoint: str, port: PublishedPort) -> Operation[Applied]:
    """Make a port of the endpoint's host lead to the endpoint, besides those that do already."""
    target = yield from _find_endpoint(endpoint)
    others = [published.data() for published in target.published if published.data() != port.data()]
    return (yield from _set_published(target, [*others, port.data()]))


def unpublish(endpoint: str, port: PublishedPort) -> Operation[None]:
    """Take a published port back; connections through others go on. Raises `NotFound` for one that is not published."""
    target = yield from _find_endpoint(endpoint)
    others = [published.data() for published in target.published if published.data() != port.data()]
    if len(others) == len(target.published):
        detail = {"kind": "not_found", "what": "published port", "name": str(port.host_port)}
        raise NotFound(f"{endpoint} does not publish port {port.host_port} to {port.port}/{port.proto}", detail=detail)
    yield from _set_published(target, others)


def _set_published(endpoint: Endpoint, published: list[dict[str, Any]]) -> Operation[Applied]:
    item = {"id": endpoint.id, "network": endpoint.network_id, "host": endpoint.host, "publish": published}
    if endpoint.name:
        item["name"] = endpoint.name
    try:
        return (yield from apply(json.dumps({"endpoints": [item]}), wait_s=PUBLISH_WAIT_S))
    except (Invalid, Conflict) as error:
        raise _own(error) from None


_PLACE = re.compile(
    r"(line \d+: )?endpoints\[0\](\.publish)?(\[\d+\]|\.\d+)?\.?(?P<field>\w*)"
)  # in a document that the caller has not written


def _own(error: Invalid | Conflict) -> Refused:
    """The same error about the published port that the caller has named."""
    text = str(error)
    match = _PLACE.match(text)
    if match is None:
        return error
    field = match["field"] or ("published port" if isinstance(error, Invalid) else "")
    message = (field + text[match.end() :]).removeprefix(": ")
    detail = error.detail | ({"path": field} if isinstance(error, Invalid) else {})
    return type(error)(message, error.status, detail)
