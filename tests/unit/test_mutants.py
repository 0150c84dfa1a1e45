"""Mutation tests: each mutant is one mistake, made in a copy of the code; the tests named with it must fail there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.depth import PROFILE

ROOT = Path(__file__).parent.parent.parent
GOLDEN = "tests/unit/test_golden.py"
AGREE = "tests/unit/test_acl_agree.py"
INDEX = "tests/unit/test_incremental.py"
NETWORKS = "tests/unit/test_incremental_networks.py"
DHCP = "tests/unit/test_dhcp.py"
UNDERLAY = "tests/unit/test_underlay.py"
METADATA = "tests/unit/test_metadata_services.py"
HANGS_S = 60  # a mistake may let a test wait for ever
COPIED = ("warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb", "controller", "underlay", "tools", "tests", "docs")


class Mutant(NamedTuple):
    """One line of a file, and what is wrong with the other."""

    file: str
    right: str
    wrong: str
    tests: str = "tests/unit/test_reconcile.py"


MUTANTS = (
    Mutant("controller/dhcp/v4.py", "return ACK if requested_address == endpoint_address else NAK", "return ACK", DHCP),
    Mutant("controller/dhcp/v4.py", "if overloaded & bit:", "if False:", DHCP),
    Mutant("controller/dhcp/frames.py", "if len(piece) < length:", "if False:", DHCP),
    Mutant("controller/dhcp/router.py", "!= (ROUTER_SOLICITATION, 0, 255) or not whole", "!= (ROUTER_SOLICITATION, 0, 255)", DHCP),
    Mutant("controller/dhcp/v6.py", "if not first:", "if code != IA_NA:", DHCP),
    Mutant("controller/compiler/features/spoof.py", "if e.dhcp:", "if True:", GOLDEN),
    Mutant("controller/compiler/features/spoof.py", "if e.guarded:", "if False:", GOLDEN),
    Mutant("controller/compiler/features/spoof.py", "if e.leases and mac == e.mac:", "if mac == e.mac:", GOLDEN),
    Mutant("intent/views.py", "network.ipv6_range is not None or network.external,", "network.ipv6_range is not None,", GOLDEN),
    Mutant("controller/reconcile.py", "if not (self.store_read and self.ports_read):", "if not self.store_read:"),
    Mutant("controller/reconcile.py", "if not (self.store_read and self.ports_read):", "if not self.ports_read:"),
    Mutant("controller/reconcile.py", "case Committed(session) if session == self.session and", "case Committed(session) if",
           "tests/unit/test_reconcile.py::test_a_late_answer_of_an_old_session_does_not_hide_a_refusal"),
    Mutant("controller/reconcile.py", "self.installed -= set(plan.deletes)", "pass"),
    Mutant("controller/reconcile.py", "gone = set(self._modified) - offered.keys()", "gone = set[str]()",
           "tests/unit/test_reconcile.py::test_keys_deleted_while_the_feed_was_down_go_with_the_next_full_read"),
    Mutant("controller/reconcile.py", "self.installed = {cookie for cookie in cookies if is_ours(cookie)}", "self.installed = set(cookies)"),
    Mutant("intent/incremental/index.py", "self._dirty |= self._of_network.get(network_id, set())", "pass"),
    Mutant("intent/incremental/index.py", "whole |= self._members.get(network_id, set())", "pass", INDEX),
    Mutant("intent/incremental/claims.py", "concerned |= {holder for holder in (before, after) if holder in self.endpoints}", "pass"),
    Mutant("intent/incremental/claims.py", "self._holders[claim] = rivals[0][1]\n            else", "pass\n            else"),
    Mutant("intent/incremental/claims.py", "self._changed.update(self._shares.of(claim))", "pass", INDEX),
    Mutant("intent/incremental/claims.py", "self._changed.update((self._holders[claim], *(rival", "set().update((self._holders[claim], *(rival", "tests/unit/test_claims.py"),
    Mutant("intent/incremental/virtual.py", "self._holders[key].pop((holder.endpoint.id, holder.mac), None)", "pass", INDEX),
    Mutant("intent/shares.py", "places.get(int(address) >> (address.max_prefixlen - length), ())", "()", INDEX),
    Mutant("intent/incremental/hosts.py", "del hosts[name]", "pass"),
    Mutant("intent/incremental/hosts.py", "return hosts[endpoint.host] == 1", "return False", INDEX),
    Mutant("intent/incremental/hosts.py", "return name not in hosts", "return False", INDEX),
    Mutant("intent/incremental/index.py", "self.hosts.change()\n        changed", "changed", INDEX),
    Mutant("intent/incremental/index.py", "networks = self._networks.of_profile(name)", "networks = set()", INDEX),
    Mutant("intent/incremental/index.py", "self.hosts.change()\n        self.tunnels", "self.tunnels", INDEX),
    Mutant("intent/incremental/tunnels.py", "before.get(number) != self.ofports.get(number)", "number in self.ofports", INDEX),
    Mutant("intent/incremental/index.py", "self._dirty_networks |= {n.id for n in self._networks.valid.values() if n.dns_server}", "pass",
           "tests/unit/test_incremental.py::test_the_port_of_the_resolver_reaches_the_networks_with_names"),
    Mutant("intent/incremental/index.py", "self._dirty_networks |= self.routes.with_routed({self._records[e]", "self._dirty_networks |= set({self._records[e]", INDEX),
    Mutant("intent/incremental/index.py", "for name in self.hosts.set_encrypted(hosts):", "for name in list(self.hosts.set_encrypted(hosts))[:0]:", INDEX),
    Mutant("intent/incremental/index.py", "return self.hosts.vtep(endpoint.host, self._networks.valid[endpoint.network_id]) is not None", "return True", INDEX),
    Mutant("controller/compiler/features/guard.py", "or e.unknown_macs:", "or False:", GOLDEN),
    Mutant("controller/compiler/features/guard.py", "for vtep in n.interface_vteps:", "for vtep in n.vteps:", GOLDEN),
    Mutant("controller/compiler/features/classify.py", "for vtep in s.copiers:", "for vtep in sorted(s.copiers)[:1]:", GOLDEN),
    Mutant("intent/incremental/index.py", "if whole else self._of_host.get(name, set())", "if whole else set()", INDEX),
    Mutant("intent/incremental/policies.py", "                self._endpoints_by_reference[reference].add(endpoint_id)\n                self.touch(reference)",
           "                self._endpoints_by_reference[reference].add(endpoint_id)",
           "tests/unit/test_incremental.py::test_an_endpoint_that_gets_a_label_reaches_the_policies_that_name_it"),
    Mutant("intent/incremental/policies.py", "flipped |= users", "pass", INDEX),
    Mutant("intent/incremental/policies.py", "                del used[name]\n", "                pass\n", INDEX),
    Mutant("intent/incremental/index.py", "self._dirty_networks |= self.policies.networks_using(decoded.id)", "pass", INDEX),
    Mutant("intent/incremental/index.py", "self.policies.touch((decoded.kind, decoded.id))", "pass", INDEX),
    Mutant("intent/incremental/index.py", "touched = delta.networks | delta.moved", "touched = delta.networks", INDEX),
    Mutant("pipeline/flow.py", "{self.match!r}, {_text(self.actions)}, {self.origin!r}", "{self.match!r}, {self.origin!r}"),
    Mutant("controller/reconcile.py", "self._compiled.update((flow.cookie, planned(flow, self.pack)) for flow in program.flows if flow.cookie in needed)", "pass",
           "tests/unit/test_units.py"),
    Mutant("controller/apps/store_feed.py", "_early.pop() if _early else _start()", "_start()", "tests/unit/test_store_feed.py"),
    Mutant("controller/compiler/features/forward.py", "match(reg0=e.vni, reg1=ORIGIN_LOCAL, eth_dst=e.mac)", "match(reg0=e.vni, eth_dst=e.mac)",
           "tests/unit/test_golden.py"),
    Mutant("intent/incremental/index.py", "before.shape != after.shape", "False", INDEX),
    Mutant("intent/views.py", "return self.gateway, self.routed, bool(self.ports)", "return (self.gateway,)", INDEX),
    Mutant("intent/incremental/routes.py", "        return self.within_two_routers(network_id)\n", "        return set()\n", INDEX),
    Mutant("intent/incremental/routes.py", "return set(to).union(*(self.to[n] for n in to))", "return set(to)",
           "tests/unit/test_routers.py"),
    Mutant("intent/incremental/index.py", "self._dirty_networks |= self.routes.with_routed(touched)", "pass", INDEX),
    Mutant("intent/incremental/routes.py", "return changed.union(", "return changed or changed.union(", INDEX),
    Mutant("intent/incremental/services.py", "moved |= ids ^ self.members.pop(network_id, frozenset())", "self.members.pop(network_id, None)", INDEX),
    Mutant("intent/incremental/index.py", "self._dirty_networks |= self.services.take_services({decoded.id})",
           "self.services.take_services({decoded.id})", INDEX),
    Mutant("controller/compiler/features/forward.py", "match(reg0=e.vni, reg1=ORIGIN_GATEWAY, eth_dst=e.mac)",
           "match(reg0=e.vni, eth_dst=e.mac)", GOLDEN),
    Mutant("specs/checks.py", "                if overlap(first, other):", "                if False:", "tests/unit/test_routers.py"),
    Mutant("controller/compiler/features/route.py", "Set(REG_NETWORK, route.vni),", "Set(REG_NETWORK, n.vni),", GOLDEN),
    Mutant("controller/compiler/features/route.py", "CheckLarger(ETHERNET + route.mtu,", "CheckLarger(route.mtu,", GOLDEN),
    Mutant("intent/incremental/index.py", 'self._dirty_networks |= {n.id for n in self._networks.valid.values() if n.mode != "flat"}', "pass", INDEX),
    Mutant("intent/incremental/index.py", "touched |= marked", "pass", INDEX),
    Mutant("mirror/sessions.py", 'None if holder == f"mirror {mirror.name}" else', "None if True else", "tests/unit/test_mirrors.py"),
    Mutant("controller/compiler/features/mirror.py", "match(reg0=e.vni, reg2=e.ofport)", "match(reg2=e.ofport)", GOLDEN),
    Mutant("controller/compiler/features/output.py", "match(reg0=e.vni, reg2=e.ofport)", "match(reg2=e.ofport)", GOLDEN),
    Mutant("specs/ports.py", "return moved | {subport for endpoint_id in moved", "return moved or {subport for endpoint_id in moved", INDEX),
    Mutant("intent/incremental/index.py", "self.bindings.change_record(endpoint_id, old, new)", "pass", INDEX),
    Mutant("intent/incremental/hosts.py", "self._behind[network_id].pop(endpoint_id, None)", "pass", INDEX),
    Mutant("specs/snapshot.py", "rivals[key] = before", "pass", "tests/unit/test_snapshot.py"),
    Mutant("acl/compile.py", "priority = resolved.rule, FIRST - position", "priority = resolved.rule, FIRST + position", AGREE),
    Mutant("acl/compile.py", "(Conjunction(conj_id, clause, len(many)),)", "(Conjunction(conj_id, 1, len(many)),)", AGREE),
    Mutant("acl/compile.py", "    if not all(choices):", "    if not any(choices):", AGREE),
    Mutant("acl/evaluate.py", 'self.fields.get("eth_type") == IPV6', 'self.fields.get("eth_type") == 0', AGREE),
    Mutant("acl/fragments.py", "if zero and exact", "if not zero and exact", AGREE),
    Mutant("acl/fragments.py", "not rule.allow or protocol", "protocol", AGREE),
    Mutant("acl/compile.py", "conj_id + LATER_IDS", "conj_id", AGREE),
    Mutant("specs/checks.py", "(vni - 1) % count + 1", "vni % count", "tests/unit/test_snapshot.py"),
    Mutant("specs/checks.py", "return zone % count + 1", "return (zone + 1) % (count + 1)", "tests/unit/test_snapshot.py"),
    Mutant("intent/incremental/networks.py", "heappush(queue, self._ages[younger])", "pass", NETWORKS),
    Mutant("intent/incremental/networks.py", "reordered={changed} if", "reordered=set() if", NETWORKS),
    Mutant("intent/incremental/zones.py", "heir = min(heirs,", "heir = max(heirs,", NETWORKS),
    Mutant("intent/incremental/ranges.py", "length < prefix.prefixlen", "False", NETWORKS),
    Mutant("intent/incremental/routes.py", "connected |= more", "pass", NETWORKS),
    Mutant("intent/incremental/services.py", "rivals |= self._rivals(name) | {name}", "rivals.add(name)", NETWORKS),
    Mutant("specs/snapshot.py", "first = min(rivals,", "first = max(rivals,", "tests/unit/test_snapshot.py"),
    Mutant("controller/reconcile.py", "self._to_report |= self._in_flight_reports\n", "pass\n",
           "tests/unit/test_reconcile.py::test_reports_in_flight_when_the_switch_disconnects_are_sent_after_the_next_connection"),
    Mutant("intent/incremental/policies.py", '{("meter", rule.meter)} if rule.meter else set()', "set()",
           "tests/unit/test_incremental.py::test_a_changed_meter_reaches_the_policies_that_use_it"),
    Mutant("controller/tunnels/probes.py", "MISSED = 3 ", "MISSED = 4 ", "tests/unit/test_probes.py"),
    Mutant("controller/openflow/packet_log.py", "min(BURST, tokens + (now - since) * RATE)", "tokens + (now - since) * RATE",
           "tests/unit/test_packet_log.py"),
    Mutant("controller/openflow/icmp.py", "packet[40] < INFORMATION6", "packet[40] <= INFORMATION6", "tests/unit/test_icmp.py"),
    Mutant("ovsdb/transact.py", 'if named and result.get("count") == 0:', "if False:", "tests/unit/test_rows.py"),
    Mutant("acl/compile.py", "conj_id = 2 * position + index + 1", "conj_id = index + 1", AGREE),
    Mutant("controller/openflow/messages.py", "yield from map(delete_flow, deletes)", "pass", "tests/unit/test_openflow_messages.py"),
    Mutant("underlay/plan.py", "if address.ip not in foreign}", "}", UNDERLAY),
    Mutant("underlay/plan.py", "if holder != link.name:", "if False:", UNDERLAY),
    Mutant("underlay/plan.py", "return len(placed) + len(others) > 1", "return len(placed) > 0", UNDERLAY),
    Mutant("underlay/plan.py", "nic.gateway6 or learnt", "learnt", UNDERLAY),
    Mutant("underlay/plan.py", "link.kind in _STACKED, link.index", "link.index", UNDERLAY),
    Mutant("underlay/plan.py", "GUARD if self.source is None and self.destination is None else RULE", "RULE", UNDERLAY),
    Mutant("underlay/plan.py", "not any(gateway in subnet for subnet in subnets)", "False", UNDERLAY),
    Mutant("underlay/plan.py", "yield RoutingRule(version=prefix.version, table=table, source=prefix)", "pass", UNDERLAY),
    Mutant("underlay/plan.py", "remove=less(before, after)", "remove=Marked()", UNDERLAY),
    Mutant("underlay/http.py", "self._urls = (*self._urls[1:], self._urls[0])", "pass", UNDERLAY),
    Mutant("underlay/ec2.py", "(before.listing, before.leaves) == (listing.text, leaves)", "before.changing == changing", METADATA),
)  # fmt: skip


@pytest.mark.skipif(PROFILE == "quick", reason="make test makes every mistake; make unit checks that each still fits the code")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file.split('/')[-1]}:{mutant.right[:30]}")
def test_a_mistake_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.right, mutant.wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "pytest_timeout", "--timeout", str(HANGS_S), "-p", "no:cacheprovider",
               mutant.tests]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "mutants",
                   "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # schemathesis' plugin takes longer to load than most of these tests take  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "failed" in done.stdout or "FAILED" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file.split('/')[-1]}:{mutant.right[:30]}")
def test_every_mistake_fits_the_code(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.right) == 1
