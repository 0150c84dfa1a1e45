"""A real Prometheus with etc/prometheus scrapes a real host; the queries of FAUCET's dashboards and Warren's own have results."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import World
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

ROOT = Path(__file__).parent.parent.parent
ETC = ROOT / "etc" / "prometheus"
DASHBOARDS = sorted((ROOT / "etc" / "grafana" / "dashboards").glob("*.json"))
# what the dashboards that FAUCET publishes ask for, of what this controller has
FAUCETS = (
    'instance_port:of_port_rx_bits:rate1m{dp_name=~"h1", port=~".*"}',
    'instance_port:of_port_tx_bits:rate1m{dp_name=~"h1", port=~".*"} * -1',
    'instance_port:of_port_rx_packets:rate1m{dp_name=~"h1", port=~".*"}',
    'instance_port:of_port_tx_packets:rate1m{dp_name=~"h1", port=~".*"} * -1',
    'instance_port:of_port_rx_dropped:rate1m{dp_name=~"h1", port=~".*"}',
    'instance_port:of_port_tx_dropped:rate1m{dp_name=~"h1", port=~".*"} * -1',
    'instance_port:of_port_rx_errors:rate1m{dp_name=~"h1", port=~".*"}',
    'port_status{dp_name =~ "h1"} == 1',
    "rate(of_port_rx_bytes[1m])",
    'rate(process_cpu_seconds_total{job=~"faucet|gauge"}[60s]) * 100',
    'process_open_fds{job=~"faucet|gauge"}',
    'process_resident_memory_bytes{job=~"faucet|gauge"}',
    "of_dp_desc_stats",
    "dp_status",
)
SOMETIMES_EMPTY = (
    "of_port_rx_dropped[5m]) > 0",
    "of_port_tx_dropped[5m]) > 0",
    "of_meter_",
    "warren_acl_rule",
    "warren_packet_ins",
)


class Prometheus:
    """The one that runs on h1."""

    def __init__(self, world: World) -> None:
        self.world = world

    def query(self, expression: str) -> list[dict[str, object]]:
        """An instant query's result."""
        text = self.world.inside(
            "h1", "curl", "-sf", "-m", "5", "-G", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode", f"query={expression}"
        ).stdout
        answer = json.loads(text or '{"status": "silent"}')
        assert answer["status"] != "error", answer
        return answer["data"]["result"] if answer["status"] == "success" else []


@pytest.fixture(scope="module")
def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    for path in ETC.glob("*.yml"):
        (directory / path.name).write_text(path.read_text())
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        configuration.read_text().replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
    )
    process = world.background(
        "h1", "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory}/data",
        "--web.listen-address=127.0.0.1:9090", "--log.level=warn",
    )  # fmt: skip
    try:
        yield Prometheus(world)
    finally:
        process.terminate()
        output = process.communicate(timeout=LIMIT_S)[0]
    assert "level=error" not in output, output


def queries(path: Path) -> list[str]:
    panels = json.loads(path.read_text())["panels"]
    return [re.sub(r"\$(host|network)", ".*", target["expr"]) for panel in panels for target in panel["targets"]]


def test_faucets_dashboards_and_ours_get_answers(world: World, prometheus: Prometheus) -> None:
    eventually(lambda: len(prometheus.query('up{job=~"gauge|faucet"} == 1')) == 2)
    sending = world.background("web", "ping", "-q", "-i0.05", "-c400", world.address["app"])
    rate = 'rate(of_port_rx_bytes{port_description="amber/web"}[1m])'
    eventually(lambda: any(float(series["value"][1]) > 100 for series in prometheus.query(rate)))  # type: ignore[index]
    for query in FAUCETS:
        eventually(lambda query=query: prometheus.query(query) != [])
    for query in (query for path in DASHBOARDS for query in queries(path)):
        if not any(words in query for words in SOMETIMES_EMPTY):
            eventually(lambda query=query: prometheus.query(query) != [])
        prometheus.query(query)
    negative = prometheus.query('{__name__=~"instance_port:of_port_.*:rate1m"} < 0')
    assert negative == []
    sending.terminate()
    sending.communicate()


def test_a_restarted_controller_sets_no_rate_back_and_makes_no_peak(world: World, prometheus: Prometheus) -> None:
    """What ports count is the switch's; totals of the controller begin anew, which Prometheus takes for a restart and no more."""
    of_web = '{port_description="amber/web", job="gauge"}'
    eventually(lambda: prometheus.query(f"of_port_rx_packets{of_web}") != [])
    sending = world.background("web", "ping", "-q", "-i0.05", "-w120", world.address["app"])  # 20 packets a second
    network = 'warren_network_rx_packets_total{network="amber", job="gauge"}'

    def value(query: str) -> float:
        series_list = prometheus.query(query)
        return float(series_list[0]["value"][1]) if series_list else -1.0  # type: ignore[index]

    try:
        eventually(lambda: value(f"increase({network}[10s])") > 20)
        before = value("process_start_time_seconds{job='faucet'}")
        run.restart(world.plan, "h1", "controller", signal.SIGKILL)
        eventually(lambda: value("process_start_time_seconds{job='faucet'}") > before)
        started = value("process_start_time_seconds{job='faucet'}")
        eventually(lambda: value(f"timestamp({network})") > started + 8)
        eventually(lambda: value(f"increase({network}[10s])") > 20)  # a late scrape leaves a window without two samples
        for counter in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes"):
            assert value(f"resets(of_port_{counter}{of_web}[2m])") == 0, counter
            assert value(f"min_over_time(rate(of_port_{counter}{of_web}[5s])[1m:1s])") >= 0, counter
        for series in (network, f"of_port_rx_packets{of_web}"):
            assert 0 < value(f"max_over_time(rate({series}[10s])[1m:1s])") < 20 * 20, series
    finally:
        sending.terminate()
        sending.communicate()


def test_the_rules_are_prometheus_rules_about_metrics_that_exist() -> None:
    run.sh("promtool", "check", "config", str(ETC / "prometheus.yml"))
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    expressions = [
        rule["expr"]
        for path in ETC.glob("*.rules.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    expressions += [query for path in DASHBOARDS for query in queries(path)]
    named = {word for text in expressions for word in re.findall(r"\b((?:warren_|of_|dp_|port_)\w+)\b(?!\))", text)}
    named = {re.sub(r"_(bucket|count|sum)$", "", name) if name not in documented else name for name in named}
    assert len(named) > 15
    assert named - {"dp_name", "port_description"} <= documented
