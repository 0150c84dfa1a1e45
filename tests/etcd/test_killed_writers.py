"""Writers killed at any moment: no value is given twice, and none stays taken without an owner."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

from specs import keys
from specs.model.base import VNI_FIRST
from specs.store import bitmap
from specs.store.etcd import Store
from specs.store.repository import Repository
from tests.etcd.conftest import Etcd
from tests.programs import program

ROOT = Path(__file__).parent.parent.parent


def numbers(store: Store, prefix: str) -> set[int]:
    places = set()
    for entry in store.list(prefix)[1]:
        block, bits = int(entry.key.rpartition("/")[2]), int(entry.value, 16)
        places |= {block * bitmap.BLOCK_BITS + place for place, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"}
    return places


def test_killed_writers_leak_nothing(etcd: Etcd) -> None:
    prefix, dice = "/killed", random.Random(7)
    store = Store([etcd.url], prefix=prefix)
    specs = Repository(store)
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/16", "ipv6_range": "fd00:1::/64"})
    problems: list[str] = []
    for round_number in range(3):
        arguments = program("write_specs", etcd.url, prefix, amber.id)
        writers = [
            subprocess.Popen([*arguments, f"r{round_number}w{number}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for number in range(3)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                while (line := writer.stdout.readline()) != "works\n":
                    assert line.startswith("ERROR"), f"a writer ended early: {line!r}"
                    problems.append(line)
            for writer in writers:
                time.sleep(dice.uniform(0.01, 0.2))
                writer.kill()
        finally:
            for writer in writers:
                writer.kill()
                problems += [line for line in writer.communicate()[0].splitlines() if line.startswith("ERROR")]
    assert problems == []

    made, networks = specs.endpoints(amber.id), specs.networks()
    assert len(made) > 20
    assert amber.ip_range is not None
    assert amber.ipv6_range is not None
    v4 = [int(e.ipv4_address) - int(amber.ip_range.network_address) for e in made if e.ipv4_address]
    v6 = [int(e.ipv6_address) - int(amber.ipv6_range.network_address) for e in made if e.ipv6_address]
    ports = [(e.host, e.ofport) for e in made]
    vnis = [network.vxlan_vni for network in networks]
    for given in (v4, v6, ports, vnis):
        assert len(set(given)) == len(given), "given out twice"  # type: ignore[arg-type]
    assert len(v4) == len(v6) == len(made)
    assert numbers(store, keys.pool_v4(amber.id)) == set(v4)
    assert numbers(store, keys.pool_v6(amber.id)) == set(v6)
    for host in ("h0", "h1"):
        assert numbers(store, keys.pool_ofport(host)) == {port for name, port in ports if name == host}
    assert numbers(store, keys.pool_vni()) == set(vnis)
    assert min(vnis) == VNI_FIRST
    assert {e.value for e in store.list("claim/network-name/")[1]} == {network.id for network in networks}
    assert {e.value for e in store.list(f"claim/endpoint-name/{amber.id}/")[1]} == {e.id for e in made}
