"""SAND's command line, verb by verb: the bytes that its client sends, recorded beside SAND 1.0.3, have the same outcome with Warren.

`sand_transcript.json` has, for each command, the requests as they were sent, SAND's answers, and what the command printed (of an error only
its beginning); ids, times and names of devices are invented. Two failures of SAND are left out: an endpoint that could not be made stays as a passive
one, and a list without a filter is empty. With SAND_AGENT_CLI, the path of a `sand-agent-cli`, the command itself runs.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Host
from tests.programs import program, ready
from tests.waiting import LIMIT_S

STEPS = json.loads((Path(__file__).parent / "sand_transcript.json").read_text())
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
PATHS = ("/run/netns/one", "/run/netns/two", "/run/netns/none")
ERROR = "An error occured: "
OWN_CHOICE = {"version", "vxlan_vni", "created_at", "ns_handle_path", "overlay_veth_name", "overlay_veth_mac", "target_veth_name", "target_veth_mac",
              "api_hostname"}  # fmt: skip


class Cast:
    """What stands for the transcript's ids and paths in this run."""

    def __init__(self, host: Host) -> None:
        self.parts = dict(zip(PATHS, (host.container(), host.container(), "/run/netns/none"), strict=True))

    def play(self, text: str) -> str:
        """The transcript's text with this run's ids and paths."""
        for recorded, actual in self.parts.items():
            text = text.replace(recorded, actual)
        return text

    def meet(self, recorded: Any, actual: Any) -> None:
        """Learn the ids of an answer."""
        if isinstance(recorded, dict) and isinstance(actual, dict):
            if ID.fullmatch(str(recorded.get("id", ""))):
                self.parts.setdefault(recorded["id"], actual["id"])
            for name in recorded.keys() & actual.keys():
                self.meet(recorded[name], actual[name])


def expected(record: Any) -> Any:
    """An answer of SAND without what each server chooses for itself, lists in one order."""
    if isinstance(record, dict):
        return {name: expected(value) for name, value in record.items() if name not in OWN_CHOICE}
    if isinstance(record, list):
        return sorted((expected(each) for each in record), key=str)
    return record


def only(recorded: Any, actual: Any) -> Any:
    """The part of an answer that SAND has, too."""
    if isinstance(recorded, dict) and isinstance(actual, dict):
        assert recorded.keys() <= actual.keys()
        for name in recorded:
            assert isinstance(actual[name], type(recorded[name])), (name, actual[name])  # or Go's client cannot read it
        return {name: only(recorded[name], actual[name]) for name in recorded}
    if isinstance(recorded, list):
        return [only(recorded[0], each) for each in actual] if recorded else actual
    return actual


def exchange(host: Host, request: str, inside: str) -> tuple[int, bytes]:
    """Send a request byte by byte as recorded; the body's length follows what stands in it. Returns the status and the body."""
    head, _, body = request.partition("\r\n\r\n")
    head = re.sub(r"Content-Length: \d+", f"Content-Length: {len(body)}", head)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(f"{host.dir}/agent.sock")
        client.sendall(f"{head}\r\n\r\n{body}".encode())
        stream = client.makefile("rb")
        status = int(stream.readline().split()[1])
        fields = dict(line.decode().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
        if status == 200 and request.startswith("CONNECT"):
            client.sendall(inside.encode())
            return status, stream.read()
        return status, stream.read(int(fields.get("content-length", 0)))


def line(endpoint: Mapping[str, Any]) -> str:
    """An endpoint as the command prints it."""
    text = (
        f"ID={endpoint['id']} networkID={endpoint['network_id']} hostname={endpoint['hostname']} IP={endpoint['target_veth_ip']}"
    )
    return f"* [ACTIVE]  {text} NS={endpoint['target_netns_path']}" if endpoint["active"] else f"* [PASSIVE] {text}"


def printed(words: list[str], answers: list[Any]) -> Iterator[str]:
    """The lines that the command prints for answers without an error."""
    verb, name, last = words[0], words[-1], answers[-1] or {}
    if verb in ("network-create", "network-show"):
        n = last["network"]
        if verb == "network-show":
            yield f"[{n['id']}] {n['name']} ({n['type']} VNI: {n['vxlan_vni']})"
        else:
            yield "New network created:"
            yield f"* id={n['id']} name={n['name']} type={n['type']} ip-range={n['ip_range']}, vni={n['vxlan_vni']}"
    elif verb == "network-list":
        yield "List of networks:" if last["networks"] else "No existing network"
        yield from (f"* [{n['id']}] {n['name']} ({n['type']} VNI: {n['vxlan_vni']})" for n in last["networks"])
    elif verb == "endpoint-create":
        yield from ("New endpoint created:", line(last["endpoint"]))
    elif verb == "endpoint-list":
        yield from ("List of endpoints:", *map(line, last["endpoints"]))
    elif verb == "endpoint-delete":
        yield f"Endpoint '{name}' deleted."
    elif verb == "network-delete":
        if "--recursive" in words:
            yield from (f"Endpoint '{e['id']}' deleted." for e in answers[0]["endpoints"])
        yield f"Network {words[2]} has been deleted"


def serve(cast: Cast) -> subprocess.Popen[str]:
    """Serve one page in the second container, which has its address by now."""
    netns = cast.parts["/run/netns/two"].rpartition("/")[2]
    command = ["ip", "netns", "exec", netns, *program("page", "10.5.0.51", 8080)]
    return ready(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def lines(text: str) -> list[str]:
    """What is printed, without order and without each server's choice of VNI and version."""
    return sorted(re.sub(r"(?i)(vni[:=] ?|server version: v)[0-9.]+", r"\1", line) for line in text.splitlines())


def test_sands_requests_have_the_same_outcome(host: Host) -> None:
    cast, page = Cast(host), None
    try:
        for step in STEPS:
            if step["command"][0] == "curl" and page is None:
                page = serve(cast)
            play_requests(host, cast, step)
    finally:
        if page is not None:
            page.kill()
            page.wait()


def play_requests(host: Host, cast: Cast, step: Mapping[str, Any]) -> None:
    """Send the requests of one command; the answers must make it print the same."""
    answers: list[Any] = []
    for recorded in step["exchanges"]:
        status, body = exchange(host, cast.play(recorded["request"]), cast.play(recorded.get("inside", "")))
        at = (step["command"], status, body)
        if step["stdout"] == ERROR:
            assert status == 404 if recorded["status"] == 404 else status >= 400, at
            assert "error" in json.loads(body), at
        elif recorded["request"].startswith("CONNECT"):
            head, _, text = body.decode().partition("\r\n\r\n")
            assert (status, head.partition("\r\n")[0], text) == (200, "HTTP/1.0 200 OK", step["stdout"]), at
        else:
            assert status == recorded["status"], at
            answer = json.loads(body) if body else None
            cast.meet(recorded["answer"], answer)
            played = json.loads(cast.play(json.dumps(recorded["answer"])))
            assert expected(only(recorded["answer"], answer)) == expected(played), at
            answers.append(answer)
    if answers and step["stdout"] != ERROR:
        words = [cast.play(word) for word in step["command"]]
        output = list(printed(words, answers)) or [f"Client version: v1.0.3\nServer version: {answers[0]['version']}"]
        assert lines("\n".join(output)) == lines(cast.play(step["stdout"])), step["command"]


@pytest.mark.skipif("SAND_AGENT_CLI" not in os.environ, reason="needs SAND_AGENT_CLI, the path of a sand-agent-cli")
def test_sands_command_prints_the_same(host: Host) -> None:
    cast, page = Cast(host), None
    env = {"SAND_API_URL": "http://127.0.0.1:9999", "PATH": os.environ["PATH"]}
    try:
        for step in STEPS:
            if step["command"][0] == "curl" and page is None:
                page = serve(cast)
                assert host.inside(cast.parts["/run/netns/one"], "ping", "-c1", "-W2", "10.5.0.51").returncode == 0
            command = ["ip", "netns", "exec", host.switch.netns, os.environ["SAND_AGENT_CLI"], *map(cast.play, step["command"])]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
            assert done.returncode == 0, (step["command"], done)  # the command never fails otherwise
            if step["stdout"] == ERROR:
                assert done.stdout.startswith(ERROR), (step["command"], done.stdout)
                continue
            actual, recorded = (list(dict.fromkeys(ID.findall(text))) for text in (done.stdout, step["stdout"]))
            if step["command"][0].endswith("-create"):
                cast.parts.setdefault(recorded[0], actual[0])
            assert lines(re.sub("Client version: .*", "Client version: v1.0.3", done.stdout)) == lines(cast.play(step["stdout"]))
    finally:
        if page is not None:
            page.kill()
            page.wait()
