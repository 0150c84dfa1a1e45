"""The command line: every help text can be printed, and every argument is parsed or refused in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.programs import program
from tests.waiting import LIMIT_S
from tools.cli import capture
from tools.cli.client import Failure
from tools.cli.main import app, main
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


# ---- forms of the output, contexts, the manual page, completion ---------------------------------------------------------


class AnyAgent(BaseHTTPRequestHandler):
    """An agent that answers everything with an object of which nothing is known."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        one = {"networks": [NETWORK], "endpoints": [ENDPOINT], "network": NETWORK, "endpoint": ENDPOINT}
        body = json.dumps(one | {kind: [{"name": "first"}] for kind in ("mirrors", "meters", "sites")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = _answer

    def log_message(self, *_: object) -> None:
        pass


NETWORK = {"id": "n1", "name": "amber", "vxlan_vni": 7, "labels": {"team": "a", "ring": ""}}
ENDPOINT = {"id": "e1", "name": "web", "network_id": "n1", "network": "amber", "labels": {"role": "web"}}


@pytest.fixture(scope="module")
def any_agent() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnyAgent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Alone(AnyAgent):
    """An agent that knows of its own host only, because etcd is away."""

    def _answer(self) -> None:
        host = {"name": "h1", "agent": "alive", "controller": "unknown", "endpoints": {"unknown": 2}, "problems": ["disk full"]}
        body = json.dumps({"revision": 9, "hosts": [host], "problems": [], "etcd": "etcd is unavailable: no answer"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = _answer


def run(url: str, *words: str) -> tuple[int, str, str]:
    """The command in this process: its exit code, and what it prints."""
    out, error = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(error), pytest.raises(SystemExit) as ended:
        main(["--url", url, *words])
    return int(ended.value.code or 0), out.getvalue(), error.getvalue()


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("-o", "name"), "amber\n"),
        (("-o", "yaml"), "- id: n1\n  name: amber\n"),
        (("--output", "json"), '[\n  {\n    "id": "n1",'),
        (("--json",), '[\n  {\n    "id": "n1",'),
        (("-o", "name", "-l", "team=a,ring"), "amber\n"),
        (("-o", "name", "-l", "team=b"), ""),
        (("-o", "name", "--selector", "nothing"), ""),
    ],
)
def test_results_are_printed_in_the_form_that_is_wanted(any_agent: str, words: tuple[str, ...], printed: str) -> None:
    code, out, _ = run(any_agent, "network", "list", *words)
    assert (code, out.startswith(printed), bool(out)) == (0, True, bool(printed))


def test_status_without_etcd_shows_what_the_agent_knows_and_says_so() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Alone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        code, out, error = run(f"http://127.0.0.1:{server.server_port}", "status")
    finally:
        server.shutdown()
        server.server_close()
    assert (code, error) == (2, "warren: etcd is unavailable: no answer; this is what the agent of h1 knows of its own host\n")
    assert next(line for line in out.splitlines() if "alive" in line).split()[:6] == [
        "h1",
        "alive",
        "unknown",
        "-",
        "2",
        "unknown",
    ]
    assert "h1: disk full" in out


def test_an_endpoints_name_is_one_that_commands_take(any_agent: str) -> None:
    assert run(any_agent, "endpoint", "list", "-o", "name")[1] == "amber/web\n"
    assert run(any_agent, "endpoint", "show", "amber/web", "-o", "name")[1] == "amber/web\n"


@pytest.mark.parametrize("words", [("-o", "xml"), ("-l", "=a"), ("-l", "")])
def test_a_form_or_selector_that_is_none_is_one_line(any_agent: str, words: tuple[str, ...]) -> None:
    code, _, error = run(any_agent, "network", "list", *words)
    assert (code, error.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("network list -o xml", "--output: 'xml': expected one of table, wide, json, yaml, name"),
        ("network create amber --vni x", "--vni: 'x': expected a whole number"),
        ("network create amber --vni 1.5", "--vni: '1.5': expected a whole number"),
        ("apply -f nope --timeout soon", "--timeout: 'soon': expected a number"),
        ("apply -f nope --timeout 99", "--timeout: 99: expected at most 50"),
        ("capture web --count 0", "--count: 0: expected at least 1"),
        ("completion tcsh", "SHELL: 'tcsh': expected one of bash, zsh, fish"),
        ("network show", "NETWORK is missing: name or id"),
        ("apply", "--file is missing: a YAML document; - is standard input"),
        ("network create amber --reserve 52:54:00:00:00:01", "--reserve 52:54:00:00:00:01: MAC=ADDRESS"),
        ("network create amber --dhcp-pool 10.0.0.5", "--dhcp-pool 10.0.0.5: FIRST-LAST[,SECONDS]"),
        ("network create amber --dhcp-pool 10.0.0.5-10.0.0.9,soon", "--dhcp-pool 10.0.0.5-10.0.0.9,soon: FIRST-LAST[,SECONDS]"),
        ("network create amber --boot-file x", "--boot-file, --boot-file-for and --root-path need --boot-server ADDRESS"),
        ("network create amber --boot-server 10.0.0.9 --boot-file-for efi", "--boot-file-for efi: KIND=FILE"),
        ("network create amber --dhcp --dhcp-external", "give --dhcp (the controller answers) or --dhcp-external"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(any_agent: str, words: str, line: str) -> None:
    code, _, error = run(any_agent, *words.split())
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"warren: {line}"), error


@pytest.mark.parametrize("command", ["apply", "diff"])
def test_an_empty_document_is_refused(any_agent: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text(" \n")
    line = f"warren: {tmp_path / 'empty.yaml'}: it is empty; expected a YAML document with sections such as networks:\n"
    assert run(any_agent, command, "-f", str(tmp_path / "empty.yaml")) == (2, "", line)


@pytest.mark.parametrize("kind", ["mirror", "meter", "site"])
def test_one_of_a_kind_without_a_request_of_its_own_is_shown(any_agent: str, kind: str) -> None:
    code, out, _ = run(any_agent, kind, "show", "first", "-o", "json")
    assert (code, json.loads(out)["name"]) == (0, "first")
    assert run(any_agent, kind, "show", "nope") == (2, "", f"warren: {kind} 'nope' does not exist (warren {kind} list)\n")


@pytest.mark.parametrize("words", ["network add", "network remove", "endpoint add", "mirror remove", "publish create",
                                   "service create", "router remove", "host delete", "port delete", "acl remove"])  # fmt: skip
def test_every_group_takes_both_words_for_making_and_removing(any_agent: str, words: str) -> None:
    """The other word leads to the same command, whose missing argument is named."""
    code, _, error = run(any_agent, *words.split())
    assert code == 2
    assert " is missing: " in error
    assert f" {words.split()[1]} " not in run(any_agent, words.split()[0], "--help")[1]


def test_a_watched_command_prints_until_it_is_ended(any_agent: str) -> None:
    command = [sys.executable, "-m", "tools.cli.main", "--url", any_agent, "network", "list", "-o", "name", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["amber\n"] * 2
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130


def test_contexts_choose_the_agent(tmp_path: Path, any_agent: str) -> None:
    env = {"WARREN_CONFIG": str(tmp_path / "config.json"), "PATH": os.environ["PATH"]}

    def warren(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tools.cli.main", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert warren("config", "current-context")[0] == 2
    assert warren("config", "set-context", "here", "--url", any_agent) == (0, "")
    assert warren("config", "set-context", "gone", "--url", "unix:///nope") == (0, "")
    assert warren("config", "current-context") == (0, "here\n")
    assert warren("network", "list", "-o", "name") == (0, "amber\n")
    assert warren("config", "use-context", "gone") == (0, "")
    assert warren("network", "list")[0] == 2
    assert warren("--context", "here", "network", "list", "-o", "name") == (0, "amber\n")
    env["WARREN_URL"] = any_agent  # the environment comes before the current context, --context before both
    assert warren("network", "list", "-o", "name") == (0, "amber\n")
    assert warren("--context", "gone", "network", "list")[0] == 2
    code, text = warren("config", "use-context", "nope")
    assert (code, "there are: gone, here" in text) == (2, True)
    assert warren("config", "delete-context", "gone") == (0, "")
    assert warren("config", "list", "-o", "name") == (0, "here\n")
    (tmp_path / "config.json").write_text("[]")
    assert warren("config", "list")[0] == 2


def test_the_manual_page_has_every_command_and_roff_takes_it() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.cli.main", "man"], capture_output=True, text=True, check=True)
    for path in commands(typer.main.get_command(app))[1:]:
        if path != ("man",):
            assert f".SS {' '.join(path)}".replace("-", r"\-") in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith(("'", "..")) or "<bool>" in line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    command = [sys.executable, "-m", "tools.cli.main"]
    script = subprocess.run([*command, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert "_WARREN_COMPLETE=complete_" in script
    env = {**os.environ, "_WARREN_COMPLETE": "complete_bash", "COMP_WORDS": "warren netw", "COMP_CWORD": "1"}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.split() == ["network"]


def test_no_colour_in_pipes_nor_with_no_color(any_agent: str) -> None:
    command = [sys.executable, "-m", "tools.cli.main", "--url", any_agent, "endpoint", "list"]
    for env in ({}, {"NO_COLOR": "1"}):
        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **env})
        assert b"\x1b" not in done.stdout


# ---- any argument ---------------------------------------------------------------------------------------------------

ROOT_COMMAND = typer.main.get_command(app)
HARMLESS = [path for path in commands(ROOT_COMMAND) if path and path[0] not in ("lab", "capture", "config")]
HOSTILE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", ".", "..", "../x", "a/b", "a/b/c", "a\0b", "\ud800", "\u202e", "-", "--", "-h1", "x" * 5000, "%00", "?a=b", "#", "0", "-1",
                     "1e9", "9" * 5000, "amber/web", "10.0.0.0/24", "8080:80", "gre://", "h1:eth0", "a=b", "=", "true", "\r\n", "[x]", "{}", "/etc/passwd"]),
)  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with arguments and options of its grammar, the values anything."""
    path = draw(st.sampled_from(HARMLESS))
    command = ROOT_COMMAND
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    words = list(path)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words += [draw(HOSTILE) for _ in range(draw(st.integers(0, 2)))]
        elif draw(st.integers(0, 3)) == 0 and "--watch" not in parameter.opts:
            words.append(draw(st.sampled_from(parameter.opts)))
            words += [] if parameter.is_flag else [draw(HOSTILE)]  # type: ignore[attr-defined]
    return words


@example(words=["acl", "check", "--from", "a", "--to", "b", "--tcp", "\ud800", "web"])
@given(words=command_lines())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_argument_gives_a_traceback(any_agent: str, words: list[str]) -> None:
    with patch("sys.stdin", TextIOWrapper(BytesIO(b"{}"))):
        code, out, error = run(any_agent, *words)
    assert code in (0, 1, 2, 3), (words, code)
    assert "Traceback" not in out + error
    if code == 2 and error:
        assert error.count("\n") == 1, error
        assert not any(word in error for word in ("Input should", "Value error", "Invalid value", "pydantic")), error
