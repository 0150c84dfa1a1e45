"""The status of all hosts: what agents and controllers report, compared with the specs."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

from agent.cache import Cache, CacheView
from agent.references import references
from agent.revisions import Revisions
from agent.states import SETTLED
from pipeline.tunnels import VXLAN_UDP_PORT
from specs import keys
from specs.model.base import decode_json
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.profile import DEFAULT
from specs.snapshot import Snapshot
from specs.store.etcd import Store
from specs.store.feed import feed
from specs.store.values import Entry, Get
from specs.store.writer import decoded
from warren import __version__
from warren.errors import Invalid

TUNNEL_PROBLEMS = {
    "down": "tunnel to {}: no probe comes back (its underlay, its switch, or {} between the two)",
    "mtu": "tunnel to {}: small packets come back, those of full size do not (the underlay's MTU on the way)",
}


def overview(store: Store, revisions: Revisions, view: CacheView | None = None) -> dict[str, Any]:
    """Return the status of all hosts. `revisions` are those of the specs. With a view of the specs, count endpoints and tell what the specs name in
    vain.

    Controllers count their endpoints by state themselves. The states that a dead one left are counted by etcd and not read, so this costs what
    the hosts are, not what their endpoints are.
    """
    prefixes = (keys.HOSTS, keys.STATUS_AGENTS, keys.STATUS_CONTROLLERS, keys.STATUS_CLAIMANTS)
    results = store.txn((), [Get(prefix, prefix=True) for prefix in prefixes]).found
    agents, controllers = (_reports(entries) for entries in results[1:3])
    claimants: dict[str, list[str]] = defaultdict(list)
    for entry in results[3]:
        claimants[entry.key.split("/")[-2]].append(str(parse_json(entry).get("problem", "another machine wants to be this host")))
    hosts = []
    for entry in results[0]:
        try:
            host = decode_json(Host, entry.value, entry.key)
        except Invalid:
            continue
        hosts.append(_host(host, agents.get(host.name), controllers.get(host.name), revisions))
        hosts[-1]["problems"] += claimants.get(host.name, [])
        if view is not None:
            hosts[-1]["problems"] = [with_names(problem, view.snapshot) for problem in hosts[-1]["problems"]]
    if view is None:
        return {"revision": revisions.newest, "hosts": hosts}
    _count_endpoints(store, hosts, controllers)
    problems = [f"{p.about.replace('/', ' ', 1)}: {p.reason}" for p in references(store, view).problems()]
    return {"revision": revisions.newest, "hosts": hosts, "problems": problems}


def alone(host: Host, problems: Iterable[str], view: CacheView, revisions: Revisions, reason: str) -> dict[str, Any]:
    """Return the status of this host as its agent knows it while etcd is unavailable, and in `etcd` why. What controllers report is not known."""
    entry = _host(host, {"version": __version__, "problems": list(problems)}, None, revisions)
    count = sum(endpoint.active for endpoint in view.local_endpoints.values())
    entry |= {"controller": "unknown", "endpoints": {"unknown": count} if count else {}}
    entry["problems"] = [with_names(problem, view.snapshot) for problem in entry["problems"]]
    return {"revision": revisions.newest, "hosts": [entry], "problems": [], "etcd": reason}


def _count_endpoints(store: Store, hosts: list[dict[str, Any]], controllers: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the endpoints of hosts by state: as their controllers have counted them, otherwise `unknown`."""
    silent = []
    for host in hosts:
        reported = controllers.get(host["name"], {}).get("endpoints")
        if isinstance(reported, dict):
            host["endpoints"] = dict(sorted(reported.items()))
        else:
            silent.append(host)
    left = store.counts([keys.status_endpoints_of(host["name"]) for host in silent])
    for host, count in zip(silent, left, strict=True):
        host["endpoints"] = {"unknown": count} if count else {}


_REFERENCE = re.compile(r"\b(network|endpoint)/([0-9a-f]{8}-[0-9a-f-]{27})\b")


def with_names(text: str, state: Snapshot) -> str:
    """Return the text with the names of networks and endpoints in place of their ids, which nobody remembers."""

    def name(reference: re.Match[str]) -> str:
        kind, key = reference.groups()
        if kind == "network":
            return f"network/{state.networks[key].name}" if key in state.networks else reference[0]
        endpoint = state.endpoints.get(key)
        if endpoint is None or not endpoint.name:
            return reference[0]
        network = state.networks.get(endpoint.network_id)
        return f"endpoint/{network.name if network else endpoint.network_id}/{endpoint.name}"

    return _REFERENCE.sub(name, text)


def wait(
    store: Store, cache: Cache, timeout_s: float, endpoints: Iterable[str] = (), hosts: Container[str] | None = None
) -> list[str]:
    """Wait until every live controller has applied the current specs and these endpoints are up or closed, at most
    `timeout_s` seconds; return the keys (below `status/`) that are late. With `hosts`, consider only their controllers."""
    revisions = cache.revisions.copy()
    records = _records(store, cache, endpoints)
    plugged = [keys.status_endpoint(e.host, e.id) for e in records if e.netns and e.active]
    reports: dict[str, Mapping[str, Any]] = {}
    done, stop = threading.Event(), threading.Event()

    def late() -> list[str]:
        late_keys = [
            key for key, r in list(reports.items()) if key.startswith(keys.STATUS_CONTROLLERS) and not current(r, revisions)
        ]
        late_keys = [key for key in late_keys if hosts is None or key.rpartition("/")[2] in hosts]
        return late_keys + [key for key in plugged if reports.get(key, {}).get("state") not in SETTLED]

    def check() -> None:
        if not late():
            done.set()

    def read(_revision: int, entries: list[Entry]) -> None:
        reports.clear()
        reports.update({entry.key: parse_json(entry) for entry in entries})
        check()

    def changed(_revision: int, events: Any) -> None:
        for event in events:
            if event.value is None:
                reports.pop(event.key, None)  # the controller has died; do not wait for it
            else:
                reports[event.key] = parse_json(event)
        check()

    prefix = keys.STATUS if plugged else keys.STATUS_CONTROLLERS
    arguments = (store, prefix, read, changed, lambda reason: None, stop)
    threading.Thread(target=feed, args=arguments, name="wait", daemon=True).start()
    done.wait(timeout_s)
    stop.set()
    return [key.removeprefix(keys.STATUS) for key in late()]


def _records(store: Store, cache: Cache, endpoint_ids: Iterable[str]) -> list[Endpoint]:
    """The records of endpoints, read from etcd if one is in a network that does not concern this host."""
    known, sought = cache.view.snapshot.endpoints, set(endpoint_ids)
    records = [known[endpoint_id] for endpoint_id in sought if endpoint_id in known]
    if len(records) < len(sought) and cache.view.followed is not None:
        entries = [entry for entry in store.list(keys.ENDPOINTS)[1] if entry.key.rpartition("/")[2] in sought - known.keys()]
        records += [record for entry in entries if (record := decoded(Endpoint, entry)) is not None]
    return records


def current(report: Mapping[str, Any], revisions: Revisions) -> bool:
    """Return whether a controller is connected and has applied all that concerns its host."""
    return bool(report.get("connected")) and int(report.get("revision") or 0) >= revisions.wanted(report.get("networks"))


def _host(
    host: Host, agent: Mapping[str, Any] | None, controller: Mapping[str, Any] | None, revisions: Revisions
) -> dict[str, Any]:
    problems = [str(problem) for problem in (agent or {}).get("problems", ())]
    problems += [": ".join(map(str, p)) if isinstance(p, list) else str(p) for p in (controller or {}).get("problems", ())]
    tunnels = (controller or {}).get("tunnels") or {}
    problems += tunnel_problems(tunnels)
    if controller is not None and not controller.get("connected"):
        problems.append("the controller has no connection to the switch")
    return {
        "id": host.name,
        **host.data(),
        "agent": "alive" if agent is not None else "dead",
        "agent_version": (agent or {}).get("version", ""),
        "controller": "alive" if controller is not None else "dead",
        "connected": bool((controller or {}).get("connected")),
        "revision": (controller or {}).get("revision"),
        "current": controller is not None and current(controller, revisions),
        "flows": (controller or {}).get("flows"),
        "tunnels": {
            "known": int(tunnels.get("known", 0)),
            "broken": dict(tunnels.get("broken", {})),
            "profiles": dict(tunnels.get("profiles", {})),
        },
        "problems": problems,
    }


def tunnel_problems(tunnels: Mapping[str, Any]) -> list[str]:
    """A line for each tunnel that its controller reports as broken; one of an older version names no profiles."""
    lines = []
    for peer, state in tunnels.get("broken", {}).items():
        for profile, word in tunnels.get("profiles", {}).get(peer, {DEFAULT: state}).items():
            if word in TUNNEL_PROBLEMS:
                named = (
                    (peer, f"UDP port {VXLAN_UDP_PORT}")
                    if profile == DEFAULT
                    else (f"{peer} by profile {profile}", f"the UDP port of {profile}")
                )
                lines.append(TUNNEL_PROBLEMS[word].format(*named))
    return lines


def _reports(entries: tuple[Entry, ...]) -> dict[str, dict[str, Any]]:
    return {entry.key.rpartition("/")[2]: parse_json(entry) for entry in entries}


def parse_json(entry: Any) -> dict[str, Any]:
    """Return the object in a report; an empty one if the report is not a JSON object."""
    try:
        data = json.loads(entry.value)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
