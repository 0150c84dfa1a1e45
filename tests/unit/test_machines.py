"""Containers by machine name and pid, and namespaces that Warren keeps: what is pure, and machinectl by a stand-in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.endpoints.kept_namespaces import needed
from agent.endpoints.request import EndpointCreate
from agent.linux.machines import namespace_of_machine, namespace_of_process
from specs.model.endpoint import Endpoint
from warren.errors import Invalid, NotFound, Unavailable

FIELDS = {"id": "e1", "network_id": "n1", "host": "h1", "mac_address": "02:57:0a:00:00:02", "ofport": 1}


@pytest.fixture
def other_namespace() -> Iterator[int]:
    if os.geteuid():
        pytest.skip("needs root")
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; sleep 100"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.wait()


def machinectl(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a stand-in of machinectl on the path; $4 is the machine's name."""
    directory.mkdir(exist_ok=True)
    (directory / "machinectl").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "machinectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_a_machine_stands_for_the_namespace_of_its_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_namespace: int
) -> None:
    machinectl(tmp_path, monkeypatch, f'[ "$1 $2 $3 $4" = "show --property=Leader --value web" ] && echo {other_namespace}')
    assert namespace_of_machine("web") == f"/proc/{other_namespace}/ns/net"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo \"Could not get path to machine: No machine 'web' known\" >&2; exit 1", NotFound),
        ("echo 0", NotFound),
        ("echo", NotFound),
        ("echo 4194304", NotFound),
        (f"echo {os.getpid()}", Invalid),
        ("echo Failed to connect to bus >&2; exit 1", Unavailable),
    ],
)
def test_what_machined_says_of_no_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception]
) -> None:
    machinectl(tmp_path, monkeypatch, script)
    with pytest.raises(error):
        namespace_of_machine("web")


def test_without_machinectl_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="systemd-container"):
        namespace_of_machine("web")


@pytest.mark.parametrize("name", ["", "-h", "a b", "../web", "web\n", "x" * 64])
def test_no_word_reaches_machinectl_that_is_no_name(name: str) -> None:
    with pytest.raises(Invalid):
        namespace_of_machine(name)


def test_a_process_in_the_hosts_namespace_is_refused() -> None:
    with pytest.raises(Invalid, match="network namespace of its own"):
        namespace_of_process(os.getpid())


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"netns": "/run/netns/web1", "keep_netns": True}, "web1"),
        ({"netns": "/var/run/netns/web1", "keep_netns": True}, "web1"),
        ({"netns": "web1"}, "web1"),
        ({"netns": "/run/netns/web1", "active": False}, None),
        ({"netns": "/proc/1/ns/net"}, None),
        ({"netns": "/run/netns/a/b"}, None),
        ({}, None),
    ],
)
def test_a_namespace_is_kept_while_an_endpoint_is_in_it(fields: dict[str, object], name: str | None) -> None:
    assert needed([Endpoint.model_validate(FIELDS | fields)]) == ({name} if name else set())


@pytest.mark.parametrize(
    "fields",
    [
        {"keep_netns": True},
        {"keep_netns": True, "netns": "/tmp/web1"},
        {"keep_netns": True, "netns": "/run/netns/../web1"},
        {"keep_netns": True, "netns": "/run/netns/"},
        {"machine": "web", "keep_netns": True, "netns": "/run/netns/web1"},
        {"machine": "web", "port": "eno1"},
        {"machine": "a/b"},
    ],
)
def test_records_that_contradict_themselves_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Endpoint.model_validate(FIELDS | fields)


def test_the_interface_of_a_machine_is_host0_unless_the_record_says_otherwise() -> None:
    assert Endpoint.model_validate(FIELDS | {"machine": "web"}).interface == "host0"
    assert Endpoint.model_validate(FIELDS | {"machine": "web", "interface": "eth0"}).interface == "eth0"
    assert Endpoint.model_validate(FIELDS).interface is None


def test_records_without_the_new_fields_are_written_as_before() -> None:
    data = Endpoint.model_validate(FIELDS).data()
    assert not {"keep_netns", "machine"} & data.keys()
    assert Endpoint.model_validate(data) == Endpoint.model_validate(FIELDS)


@pytest.mark.parametrize(
    "fields", [{"machine": "web", "pid": 7}, {"pid": 0}, {"pid": True}, {"pid": 7, "ns_handle_path": "/run/netns/w"}]
)
def test_a_request_names_one_namespace(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EndpointCreate.model_validate({"network_id": "n1"} | fields)
