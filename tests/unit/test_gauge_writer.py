"""The gauge app's InfluxDB and file sinks, in a process that eventlet has patched, against a real HTTP server and file."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.programs import program
from tests.waiting import LIMIT_S

Request = tuple[str, str | None, bytes]


@pytest.fixture
def influx() -> Iterator[tuple[str, list[Request]]]:
    """An HTTP server that takes points, and what it has been sent."""
    received: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.headers["Authorization"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def write(url: str, path: Path) -> str:
    done = subprocess.run(
        program("write_gauges", url, path),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_points_arrive_at_influxdb_and_in_files(influx: tuple[str, list[Request]], tmp_path: Path) -> None:
    url, received = influx
    assert write(f"{url}/write?db=warren", tmp_path / "a") == ""
    assert received == [("/write?db=warren", "Token T", b"packets_in,dp_name=h1 value=1i 5")] * 2
    assert (tmp_path / "a").read_text() == "one\ntwo\n" * 2


def test_an_outage_of_a_sink_is_logged_once_and_stops_nothing(tmp_path: Path) -> None:
    output = write("http://127.0.0.1:1/write", tmp_path / "nowhere" / "a")
    assert output.count("sink.failed sink=InfluxDB") == 1
    assert output.count("sink.failed") == 2
