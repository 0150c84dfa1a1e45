"""The command line: every help text can be printed, and every argument is parsed or refused in one line."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import typer

from tests.programs import program
from tools.cli import capture
from tools.cli.client import Failure
from tools.cli.main import app
from tools.cli.operate import print_status
from tools.cli.publish import parse
from tools.cli.show import cell
from warren import __version__
from warren.client import Status


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = [path]
    for name, inner in getattr(command, "commands", {}).items():
        paths += commands(inner, (*path, name))
    return paths


def test_every_command_has_a_help_text() -> None:
    command = typer.main.get_command(app)
    paths = commands(command)
    assert len(paths) > 40
    lines = "".join(" ".join(path) + "\n" for path in paths)
    done = subprocess.run(program("show_help"), input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.count("Usage: warren") == len(paths)


@pytest.mark.parametrize(
    ("way", "data"),
    [
        ("8080:80", {"host_port": 8080, "port": 80, "proto": "tcp"}),
        ("8000-8010:9000-9010/udp", {"host_port": "8000-8010", "port": "9000-9010", "proto": "udp"}),
        ("192.0.2.1:53:53/udp", {"host_port": 53, "port": 53, "proto": "udp", "host_ip": "192.0.2.1"}),
        ("[2001:db8::1]:80:8080", {"host_port": 80, "port": 8080, "proto": "tcp", "host_ip": "2001:db8::1"}),
    ],
)
def test_published_ports_are_parsed_as_docker_writes_them(way: str, data: dict[str, Any]) -> None:
    assert parse(way).data() == data


@pytest.mark.parametrize("way", ["80", "80:", ":80", "a:b", "80:80:80:80", "80:80/"])
def test_malformed_published_ports_are_refused(way: str) -> None:
    with pytest.raises(Failure, match="such as 8080:80"):
        parse(way)


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_printed(option: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tools.cli.main", option], capture_output=True, text=True, check=True)
    assert done.stdout == f"warren {__version__}\n"


def test_help_texts_have_whole_paragraphs_and_flags_without_a_type() -> None:
    lines = "capture\nacl check\nendpoint create\n"
    done = subprocess.run(program("show_help"), input=lines, capture_output=True, text=True, check=True, env={"COLUMNS": "400"})
    assert "<bool>" not in done.stdout
    assert "-h" in done.stdout
    assert (
        "carries copies to the agent that this command talks to. Ctrl-C ends it. --tcp, --udp, --match and --direction choose"
        in done.stdout
    )


def test_objects_are_printed_without_the_marks_of_python() -> None:
    assert cell({"known": 1, "broken": {}}) == "known=1"
    assert cell([{"network": "amber", "endpoint": "web"}, {"network": "blue"}]) == "network=amber endpoint=web; network=blue"
    assert (cell(None), cell(None, "none"), cell(True), cell(("a", "b"))) == ("", "none", "yes", "a; b")


def test_a_capture_ends_without_a_traceback_when_its_client_is_closed_first() -> None:
    class Silent:
        ended = False

        def counts(self) -> None:
            raise RuntimeError("Cannot send a request, as the client has been closed.")

        def cut(self) -> None:
            self.ended = True

    over, packets = threading.Event(), Silent()
    over.set()
    capture._finish(packets, over)  # type: ignore[arg-type]
    assert packets.ended


WELL = {"agent": "alive", "controller": "alive", "connected": True, "current": True, "revision": 7, "endpoints": {"up": 3}}


def hosts(*odd: dict[str, Any], count: int = 30) -> Status:
    every = [
        *({"name": f"h{i}", **WELL} for i in range(count)),
        *({"name": f"odd{i}", **WELL, **more} for i, more in enumerate(odd)),
    ]
    return Status.of({"revision": 7, "hosts": every})


def test_many_hosts_that_are_well_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    odd: tuple[dict[str, Any], ...] = (
        {"agent": "dead"}, {"controller": "dead"}, {"connected": False}, {"current": False}, {"problems": ["broken"]},
        {"tunnels": {"known": 2, "broken": {"h1": "down"}}}, {"endpoints": {"up": 1, "closed": 1}},
    )  # fmt: skip
    print_status(hosts(*odd))
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[0] for line in lines if line.startswith(("odd", "h"))] == [
        *(f"odd{i}" for i in range(len(odd))),
        "odd4:",
    ]
    assert "30 other hosts are well and current, with endpoints: 90 up (--all lists them)" in lines


@pytest.mark.parametrize(("count", "every"), [(20, False), (30, True)])
def test_few_hosts_are_listed_and_many_if_all_are_asked_for(count: int, every: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(hosts(count=count), every)
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[0] for line in lines if line.startswith("h")] == [f"h{i}" for i in range(count)]


def test_many_hosts_that_are_all_well_are_nothing_but_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(hosts())
    assert capsys.readouterr().out == "30 hosts are well and current, with endpoints: 90 up (--all lists them)\n"
