"""Checks that everything has an owner: records, claims and pools in etcd, states, veths, ports, flows, and what Docker's engines hold.
Shares nothing with the code under test but the layout of etcd (docs/specs.md)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine

BLOCK_BITS = 4096


def stored(world: World) -> dict[str, str]:
    """All of etcd below the prefix."""
    command = ("etcdctl", "--endpoints=http://198.18.1.1:2379", "get", "--prefix", "/warren/", "-w", "json")
    done = subprocess.run(run.in_netns(world.plan.netns, *command), capture_output=True, check=True)
    pairs = json.loads(done.stdout).get("kvs") or []
    text = [(base64.b64decode(p["key"]).decode(), base64.b64decode(p.get("value", "")).decode()) for p in pairs]
    return {key.removeprefix("/warren/"): value for key, value in text}


def audit(world: World, engines: Sequence[LabEngine] = ()) -> list[str]:
    """One line for each thing without an owner and each missing thing; empty when all is well."""
    store = stored(world)
    endpoints = [json.loads(v) for k, v in store.items() if k.startswith("spec/endpoints/")]
    networks = {n["id"]: n for n in (json.loads(v) for k, v in store.items() if k.startswith("spec/networks/"))}
    lines = [*_claims(store, endpoints), *_pools(store, endpoints, networks)]
    for host in world.plan.hosts:
        mine = [e for e in endpoints if e["host"] == host.name and e["active"]]
        lines += [f"{host.name}: {line}" for line in _host(world, host.name, mine, store)]
    for engine in engines:
        lines += [f"{engine.host}: {line}" for line in _engine(engine, endpoints, store)]
    for row in run.api(world.plan.hosts[0], "GET", "/status")["hosts"]:
        well = row["agent"] == "alive" and row["connected"] and row["current"]
        lines += [] if well else [f"{row['name']}: agent, controller or switch is not well: {row}"]
        lines += [f"{row['name']}: {problem}" for problem in row["problems"]]
    return lines


def settled(world: World, engines: Sequence[LabEngine] = (), timeout_s: float = 60) -> None:
    """Wait until `audit` finds nothing."""

    def well() -> bool:
        lines = audit(world, engines)
        assert not lines, lines
        return True

    eventually(well, timeout_s)


def _differ(what: str, existing: Iterable[Any], expected: Iterable[Any]) -> list[str]:
    """Lines for things without an owner, and for missing ones."""
    has, wants = set(existing), set(expected)
    return [f"{what} without an owner: {x}" for x in sorted(has - wants)] + [f"{what} missing: {x}" for x in sorted(wants - has)]


def _claims(store: dict[str, str], endpoints: list[dict[str, Any]]) -> list[str]:
    names = {(f"{e['network_id']}/{e['name']}", e["id"]) for e in endpoints if e.get("name")}
    macs = {(f"{e['network_id']}/{e['mac_address']}", e["id"]) for e in endpoints}
    taken = {kind: [(k.removeprefix(p), v) for k, v in store.items() if k.startswith(p)]
             for kind, p in (("name", "claim/endpoint-name/"), ("MAC", "claim/endpoint-mac/"))}  # fmt: skip
    return _differ("claim of a name", taken["name"], names) + _differ("claim of a MAC", taken["MAC"], macs)


def _pools(store: dict[str, str], endpoints: list[dict[str, Any]], networks: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for family, field, range_field in (("v4", "ipv4_address", "ip_range"), ("v6", "ipv6_address", "ipv6_range")):
        leased = [e["id"] for e in endpoints if family == "v4" and e.get("leased_prefix")]  # no pool of ours has those
        given = [(e["network_id"], e[field]) for e in endpoints if e.get(field) and e["id"] not in leased]
        lines += [f"address taken twice: {x}" for x in set(given) if given.count(x) > 1]
        taken = []
        for network_id, number in _numbers(store, f"pool/{family}/"):
            if network_id not in networks:
                lines.append(f"pool of a network that is not: {network_id}")
                continue
            first = ip_network(networks[network_id][range_field])[0]
            taken.append((network_id, str(ip_address(int(first) + number) if family == "v4" else first + number)))
        lines += _differ("address", taken, given)
    ports = [(e["host"], e["ofport"]) for e in endpoints]
    lines += _differ("OpenFlow port number", _numbers(store, "pool/ofport/"), ports)
    published = []
    for e in endpoints:
        for way in e.get("publish", ()):
            low, _, high = str(way["host_port"]).partition("-")
            published += [(f"{e['host']}/{way['proto']}", port) for port in range(int(low), int(high or low) + 1)]
    return lines + _differ("published port", _numbers(store, "pool/published/"), published)


def _numbers(store: dict[str, str], prefix: str) -> list[tuple[str, int]]:
    """(Pool, number) of all that a kind of pool has given out."""
    numbers = []
    for key, value in store.items():
        if key.startswith(prefix):
            pool, _, block = key.removeprefix(prefix).rpartition("/")
            bits = int(value, 16)
            numbers += [(pool, int(block) * BLOCK_BITS + i) for i in range(bits.bit_length()) if bits >> i & 1]
    return numbers


def _host(world: World, host: str, mine: list[dict[str, Any]], store: dict[str, str]) -> list[str]:
    plan = world.plan.host(host)
    assert plan is not None
    states = {k.rpartition("/")[2]: json.loads(v) for k, v in store.items() if k.startswith(f"status/endpoints/{host}/")}
    lines = _differ("state", states, [e["id"] for e in mine])
    lines += [f"endpoint {i} is {s['state']}: {s.get('reason')}" for i, s in states.items() if s["state"] != "up"]
    links = world.inside(host, "ip", "-o", "link", "show").stdout
    veths = re.findall(r"^\d+: (w[vp][0-9a-f]{12})[@:]", links, re.M)
    rows = run.sh("ovs-vsctl", f"--db=unix:{plan.directory}/db.sock", "--format=json", "--columns=name,external_ids,error", "list",
                  "Interface")  # fmt: skip
    ports = {}
    for name, ids, error in json.loads(rows)["data"]:
        if "warren-endpoint" in dict(ids[1]) or name.startswith("wv"):
            ports[name] = dict(ids[1]).get("warren-endpoint")
            lines += [f"port {name}: {error}"] if isinstance(error, str) and error else []
    cabled = [e["id"] for e in mine if not e.get("port") and not e.get("parent")]  # others have no port of their own
    lines += _differ("port", ports.values(), cabled)
    lines += _differ("veth", veths, ports)
    check = run.api(plan, "GET", f"/hosts/{host}/check")
    return (
        lines
        + [f"flow or group missing: {x}" for x in check["missing"]]
        + [f"unexpected: {x}" for x in (*check["unexpected"], *check["differences"])]
    )


def _engine(engine: LabEngine, endpoints: list[dict[str, Any]], store: dict[str, str]) -> list[str]:
    networks = engine.networks()
    kept = [k.rpartition("/")[2] for k in store if k.startswith(f"docker/{engine.host}/networks/")]
    lines = _differ("Docker network", kept, networks)
    all_kept = {k.rpartition("/")[2] for k in store if k.startswith("docker/") and "/networks/" in k}
    for network in (json.loads(v) for k, v in store.items() if k.startswith("spec/networks/")):
        if network["labels"].get("docker.network", "") not in {"", *all_kept}:
            lines.append(f"network that was made for Docker, which does not have it: {network['name']}")
    containers = engine.inspect(*engine.docker("ps", "-q").split())
    theirs: dict[str, str] = {}
    for container in containers:
        for seen in container["NetworkSettings"]["Networks"].values():
            if seen["NetworkID"] in networks:
                theirs[seen["EndpointID"]] = seen["IPAddress"]
    kept_by = {name.rpartition(".")[2] for e in endpoints for name, host in e["labels"].items()
               if name.startswith("docker.aux.") and host == engine.host}  # fmt: skip
    lines += [
        f"address kept for a Docker network that is not: {i}" for i in kept_by if not any(n.startswith(i) for n in networks)
    ]
    ours = {e["labels"]["docker.endpoint"]: "" if e.get("leased_prefix") else e.get("ipv4_address", "") for e in endpoints
            if e["host"] == engine.host and "docker.endpoint" in e["labels"]}  # fmt: skip
    lines += _differ("endpoint", ours, theirs)
    lines += [f"endpoint {i}: Docker has {a}, Warren {ours[i]}" for i, a in theirs.items() if i in ours and ours[i] != a]
    for key, value in store.items():
        if key.startswith(f"docker/{engine.host}/pools/") and f"spec/networks/{json.loads(value).get('network')}" not in store:
            lines.append(f"pool without a network: {key}")
    return lines
