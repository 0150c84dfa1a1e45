"""write_gauges URL PATH: the gauge app writes two points to an InfluxDB and two lines to a file, twice."""

from __future__ import annotations

import warnings

warnings.simplefilter("ignore")

import eventlet  # noqa: E402

eventlet.monkey_patch()

import logging  # noqa: E402
import sys  # noqa: E402
from types import SimpleNamespace  # noqa: E402

from controller.apps.gauge import GaugeApp  # noqa: E402

logging.basicConfig(format="%(levelname)s %(message)s")
url, path = sys.argv[1:]
gauge = object.__new__(GaugeApp)
gauge.settings, gauge.failing = SimpleNamespace(influx_url=url, influx_token="T"), set()
for _ in range(2):
    gauge._write_influx("packets_in,dp_name=h1 value=1i 5")
    gauge._append(path, ["one", "two"])
