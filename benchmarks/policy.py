"""ACLs in bulk: a faucet.yaml of many ACLs on many ports, from the file until the switch holds it; then one rule changed.

The ports are patch ports of the laboratory's switch that carry endpoints' ids: real flows and a real switch, without thousands of
namespaces. FAUCET, where it is installed (tests/differential/install), reads the same file in the same run.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from benchmarks.laboratory import ETCD, Laboratory
from tools.lab import run

ROOT = Path(__file__).parent.parent
FAUCET = ROOT / ".venv-faucet" / "bin" / "python"
RULES = 50


def config(acls: int, ports: int) -> dict[str, Any]:
    """A faucet.yaml as data: every port has one ACL, ACLs are shared evenly."""
    draw = random.Random(7)
    names = [f"acl{number}" for number in range(acls)]
    interfaces = {
        f"port{number}": {"number": number, "native_vlan": "office", "acls_in": [names[number % acls]]}
        for number in range(1, ports + 1)
    }
    datapath = {"dp_id": 1, "hardware": "Open vSwitch", "interfaces": interfaces}
    return {
        "vlans": {"office": {"vid": 100}},
        "acls": {
            name: [{"rule": _rule(draw)} for _ in range(RULES - 1)] + [{"rule": {"actions": {"allow": 1}}}] for name in names
        },
        "dps": {"sw1": datapath},
    }


def _rule(draw: random.Random) -> dict[str, Any]:
    rule: dict[str, Any] = {"dl_type": 0x800, "nw_dst": f"10.{draw.randrange(256)}.{draw.randrange(256)}.0/24"}
    if draw.random() < 0.6:
        rule |= {"nw_proto": 6, "tcp_dst": draw.randrange(1, 65536)}
    return rule | {"actions": {"allow": draw.randrange(2)}}


def measure(laboratory: Laboratory, acls: int, ports: int, rounds: int) -> dict[str, Any]:
    """Seconds and milliseconds; `laboratory` has one host, and nothing else in it."""
    plan, host = laboratory.plan, laboratory.plan.hosts[0]
    data = config(acls, ports)
    file = plan.directory / "faucet.yaml"
    file.write_text(yaml.safe_dump(data))
    seed = [sys.executable, "-m", "benchmarks.policy", ETCD, laboratory.network["id"], host.name, str(ports)]
    subprocess.run(run.in_netns(plan.netns, *seed), check=True)
    _ports(str(host.directory), ports)
    laboratory.settle()
    warren = [str(Path(sys.executable).with_name("warren")), "--lab", plan.name]
    began = time.monotonic()
    done = subprocess.run([*warren, "acl", "import", str(file), "--wait", "--timeout", "50"], capture_output=True, text=True)
    if done.returncode:
        raise run.LabError(done.stderr)
    results: dict[str, Any] = {"import_s": time.monotonic() - began}
    laboratory.settle()
    results["flows"] = len(laboratory.ofctl(host, "--no-stats", "dump-flows", "br-warren", "table=24").splitlines())
    log = host.directory / "controller.log"
    start = log.stat().st_size
    for turn in range(rounds):
        rules = [entry["rule"] for entry in data["acls"]["acl7"]]
        rules[3] = {"dl_type": 0x800, "nw_dst": f"192.0.2.{turn}", "actions": {"allow": turn % 2}}
        document = json.dumps({"acls": [{"name": "acl7", "rules": rules}]})
        run.api(host, "POST", "/apply", timeout_s=60, document=document)
        laboratory.settle()
    with log.open() as lines:
        lines.seek(start)
        results["change_ms"] = [float(ms) for ms in re.findall(r"revision\.applied revision=\d+ ms=([\d.]+)", lines.read())]
    results["faucet"] = _faucet(file, data)
    return results


def _ports(directory: str, ports: int) -> None:
    words = ["add-br", "br-far", "--", "set", "bridge", "br-far", f"datapath_type={_datapath(directory)}"]
    for number in range(1, ports + 1):
        name, far = f"wvbench{number}", f"far{number}"
        words += ["--", "add-port", "br-far", far, "--", "set", "interface", far, "type=patch", f"options:peer={name}"]
        words += ["--", "add-port", "br-warren", name, "--", "set", "port", name, "external_ids:owner=warren"]
        words += ["--", "set", "interface", name, "type=patch", f"options:peer={far}", f"ofport_request={number}",
                  "external_ids:owner=warren", f"external_ids:warren-endpoint=port{number}"]  # fmt: skip
    _vsctl(directory, *words)


def _datapath(directory: str) -> str:
    return _vsctl(directory, "get", "bridge", "br-warren", "datapath_type").strip()


def _vsctl(directory: str, *words: str) -> str:
    command = ["ovs-vsctl", f"--db=unix:{directory}/db.sock", "--timeout=120", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _faucet(file: Path, data: dict[str, Any]) -> dict[str, Any] | None:
    if not FAUCET.exists():
        return None
    changed = file.with_name("changed.yaml")
    data["acls"]["acl7"][3] = {"rule": {"dl_type": 0x800, "nw_dst": "192.0.2.1", "actions": {"allow": 1}}}
    changed.write_text(yaml.safe_dump(data))
    script = str(ROOT / "benchmarks" / "faucet_side.py")
    done = subprocess.run([str(FAUCET), script, str(file), str(changed)], capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise run.LabError(done.stderr.strip().splitlines()[-1])
    start, reload = (json.loads(line) for line in done.stdout.splitlines())
    return {"flows": start["flows"], "total_s": start["total_s"], "reload_s": reload["total_s"], "restart": reload["restart"]}


def main() -> None:
    """The child process inside the laboratory: endpoints `port1` ... on a host."""
    from specs import keys
    from specs.model.derived import default_mac
    from specs.model.endpoint import Endpoint
    from specs.store.etcd import Put, Store, TxnOperation
    from specs.store.placements import index
    from specs.store.repository import Repository

    url, network_id, host, ports = sys.argv[1:]
    specs = Repository(Store([url]))
    puts: list[TxnOperation] = []
    for number in range(1, int(ports) + 1):
        address = ip_address((10 << 24) + (64 << 16) + 256 + number)
        mac = default_mac("", address, None)  # type: ignore[arg-type]
        endpoint = Endpoint(
            id=f"port{number}", name=f"port{number}", network_id=network_id, host=host, mac_address=mac, ipv4_address=address,
            ofport=number,
        )  # type: ignore[arg-type]  # fmt: skip
        puts.append(Put(keys.endpoint(network_id, endpoint.id), endpoint.encode()))
        puts += [Put(key, value) for key, value in index(endpoint).items()]
    for start in range(0, len(puts), 100):
        specs.store.txn((), puts[start : start + 100])


if __name__ == "__main__":
    main()
