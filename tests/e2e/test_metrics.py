"""Metrics of a real host: counters rise with packets, names are Gauge's, a restart resets no counter."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run

ROOT = Path(__file__).parent.parent.parent
METRICS = ROOT / "docs" / "metrics.md"


def scraped(world: World, port: int) -> dict[str, float]:
    """Series to value, as h1 serves them."""
    text = world.inside("h1", "curl", "-s", "-m", "5", f"http://127.0.0.1:{port}/metrics").stdout
    return {m[1]: float(m[2]) for m in re.finditer(r"^([^#\s].*) (\S+)$", text, re.MULTILINE)}


def of(series: dict[str, float], metric: str, **labels: str) -> float:
    """The value of the one series that has these labels."""
    required = [f'{name}="{value}"' for name, value in labels.items()]
    values = [v for s, v in series.items() if s.startswith(metric + "{") and all(label in s for label in required)]
    assert len(values) <= 1, values
    return values[0] if values else -1.0


def test_counters_rise_with_packets_and_survive_a_restart(world: World) -> None:
    def sent() -> float:
        return of(scraped(world, 9303), "of_port_rx_packets", port_description="amber/web")

    eventually(lambda: sent() >= 0)
    before = sent()
    assert world.reaches("web", world.address["app"], 20)
    eventually(lambda: sent() >= before + 20)
    assert of(scraped(world, 9303), "warren_endpoint_rx_packets", network="amber", endpoint="web") >= before + 20
    run.restart(world.plan, "h1", "controller", signal.SIGKILL)
    eventually(lambda: sent() >= before + 20)
    assert of(scraped(world, 9303), "dp_status") == 1


def test_the_names_and_labels_are_faucets_and_gauges(world: World) -> None:
    """What FAUCET's Grafana dashboards ask for, by name and label; totals of networks, drops and floods with real packets."""
    eventually(lambda: of(scraped(world, 9303), "of_port_rx_packets", port_description="amber/web") >= 0)
    gauge, faucet = scraped(world, 9303), scraped(world, 9302)
    for metric in ("packets", "bytes", "dropped", "errors"):
        for way in ("rx", "tx"):
            assert of(gauge, f"of_port_{way}_{metric}", dp_name="h1", port_description="amber/web") >= 0, metric
    for metric in ("reason", "state", "curr_speed", "max_speed"):
        assert of(gauge, f"of_port_{metric}", dp_name="h1", port_description="amber/web") >= 0, metric
    assert of(gauge, "of_port_rx_bytes", port="LOCAL") >= 0
    assert of(faucet, "port_status", dp_name="h1", port_description="amber/web") == 1
    assert of(faucet, "of_dp_desc_stats", dp_name="h1", hw_desc="Open vSwitch") > 0
    assert of(faucet, "dp_status") == of(gauge, "dp_status") == 1
    assert of(faucet, "ryu_config", param="echo_request_interval") > 0
    assert faucet["process_resident_memory_bytes"] > 0
    assert of(faucet, "faucet_pbr_version") == 1
    assert of(faucet, "faucet_config_reload_cold_total", dp_name="h1") == 0
    requests, warm = faucet["faucet_config_reload_requests_total"], of(faucet, "faucet_config_reload_warm_total", dp_name="h1")
    assert requests >= warm >= 0
    with world.temporary("reloaded", "h1", "amber"):
        change = {"name": "reloaded", "network": "amber", "host": "h1", "acls": ["reloaded"]}
        world.apply(acls={"reloaded": [{"actions": {"allow": 1}}]}, endpoints=[change])
        eventually(lambda: of(scraped(world, 9302), "faucet_config_reload_warm_total", dp_name="h1") > warm)
        assert scraped(world, 9302)["faucet_config_reload_requests_total"] > requests
    run.api(world.plan.hosts[0], "DELETE", "/acls/reloaded")
    assert of(scraped(world, 9302), "faucet_config_reload_cold_total", dp_name="h1") == 0
    assert of(gauge, "warren_table_flows", table="SPOOF_GUARD") > 10

    def counted(metric: str, **labels: str) -> float:
        return of(scraped(world, 9303), metric, **labels)

    network = counted("warren_network_rx_packets_total", network="amber")
    drops = counted("warren_dropped_packets_total", table="SPOOF_GUARD")
    floods = counted("warren_group_packets_total", kind="network", name="amber")
    assert min(network, drops, floods) >= 0
    assert world.reaches("web", world.address["app"], 20)
    world.inside("web", "ip", "addr", "add", "10.9.9.9/32", "dev", "lo")
    world.inside("web", "ping", "-c5", "-i0.1", "-W1", "-I", "10.9.9.9", world.address["app"])  # not its own address
    world.inside("web", "ip", "addr", "del", "10.9.9.9/32", "dev", "lo")
    world.inside("web", "ping", "-b", "-c5", "-i0.1", "-W1", "10.0.0.255")
    eventually(lambda: counted("warren_network_rx_packets_total", network="amber") >= network + 25)
    eventually(lambda: counted("warren_dropped_packets_total", table="SPOOF_GUARD") >= drops + 5)
    eventually(lambda: counted("warren_group_packets_total", kind="network", name="amber") >= floods + 5)


def test_the_controllers_own_metrics_follow_its_work(world: World) -> None:
    def applied() -> float:
        return of(scraped(world, 9302), "warren_revision_applied", dp_name="h1")

    eventually(lambda: applied() > 0)
    before, changes = applied(), of(scraped(world, 9302), "warren_change_seconds_count")
    with world.temporary("counted", "h2", "amber"):  # a neighbour for h1
        eventually(lambda: of(scraped(world, 9302), "warren_change_seconds_count") > changes)
        series = scraped(world, 9302)
    assert of(series, "warren_revision_applied") > before
    assert of(series, "warren_endpoints", state="up") >= 3
    assert of(series, "warren_flows") > 50


ROWS = re.compile(r"^\| `(\w+)` \| (\w+) \| (\d+) \| (.*?) \| (.+) \|$", re.MULTILINE)


def test_every_documented_metric_is_scraped_with_its_help_and_kind_and_no_other_of_ours(world: World) -> None:
    """From a real host; those that wait for a rule, a meter or a mirror have no series yet, and say what they are all the same."""
    rows = ROWS.findall(METRICS.read_text())
    assert len(rows) > 50
    for port in (9302, 9303):
        text = world.inside("h1", "curl", "-s", "-m", "5", f"http://127.0.0.1:{port}/metrics").stdout
        helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        documented = {name: (kind, help_text) for name, kind, where, _, help_text in rows if int(where) == port}
        assert {name: (kinds.get(name), helps.get(name)) for name in documented} == documented
        ours = {name for name in helps if name.startswith(("warren_", "of_", "dp_", "port_")) and not name.endswith("_created")}
        assert ours - {"warren_info"} == {name for name in documented if not name.startswith("faucet_")}


DOCUMENT = """
meters: [{{name: counted, rate: 100000}}]
acls:
  - name: counted
    rules:
      - {{proto: icmp, log: true, actions: {{allow: 1, meter: counted}}}}
      - {{dl_type: 0x800, nw_proto: 17, udp_dst: {port}, actions: {{allow: 0}}}}
      - {{actions: {{allow: 1}}}}
"""


def test_rules_meters_and_packet_ins_are_counted(world: World) -> None:
    h1 = world.plan.hosts[0]

    def apply(port: int) -> None:
        run.api(h1, "POST", "/apply", timeout_s=30, document=DOCUMENT.format(port=port), wait_s=20)

    def hits(rule: int) -> float:
        return of(scraped(world, 9303), "warren_acl_rule_packets_total", acl="counted", rule=str(rule))

    apply(7)
    with world.temporary("judged", "h1", "amber", acls=["counted"]):
        eventually(lambda: hits(1) >= 0)
        before = hits(1)
        shown = of(scraped(world, 9302), "warren_packet_ins_total", kind="acl")
        assert world.reaches("judged", world.address["app"], 10)
        eventually(lambda: hits(1) >= before + 10)
        assert of(scraped(world, 9302), "warren_packet_ins_total", kind="acl") >= max(shown, 0) + 10
        metered = {s: v for s, v in scraped(world, 9303).items() if s.startswith("of_meter_packet_in_count{")}
        assert max(metered.values()) >= 10
        counted = hits(1)
        apply(8)  # another rule of the same ACL
        eventually(lambda: of(scraped(world, 9303), "warren_acl_rule_packets_total", acl="counted", rule="2") >= 0)
        assert world.reaches("judged", world.address["app"], 5)
        eventually(lambda: hits(1) >= counted + 5)  # has not begun anew
    eventually(lambda: hits(1) == -1)  # its series end with its flows
    run.api(h1, "DELETE", "/acls/counted")
