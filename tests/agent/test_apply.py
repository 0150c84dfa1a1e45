"""`warren apply` against a real agent: progress, refusals, and clients that go half-way."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import ROOT, Host
from tests.waiting import quiet, read_until
from warren.client import AsyncClient, Client, Conflict, Invalid, Progress

MANY = 4000  # they take some seconds


@pytest.fixture
def agent(host: Host) -> Iterator[Client]:
    with Client(f"unix://{host.dir}/agent.sock") as agent:
        yield agent
        agent.apply("{networks: [], endpoints: [], services: [], mirrors: []}", prune=True)


def document(count: int) -> str:
    lines = [f"- {{name: e{i}, network: big, host: h1, active: false}}" for i in range(count)]
    return "networks: [{name: big, ip_range: 10.0.0.0/16}]\nendpoints:\n" + "\n".join(lines)


def warren(host: Host, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.cli.main", "--url", f"unix://{host.dir}/agent.sock", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)


def test_progress_is_reported_and_the_answer_is_the_same_without_it(host: Host, agent: Client) -> None:
    steps: list[Progress] = []
    tried = agent.apply(document(600), dry_run=True)
    applied = agent.apply(document(600), progress=steps.append)
    assert applied.changes == tried.changes
    assert {step.phase for step in steps} == {"checked", "written"}
    assert (steps[-1].done, steps[-1].total) == (601, 601)
    assert agent.apply(document(600), progress=steps.append).changes == ()

    async def pruned() -> int:
        async with AsyncClient(f"unix://{host.dir}/agent.sock") as client:
            return len((await client.apply("{networks: [], endpoints: []}", prune=True, progress=steps.append)).changes)

    assert asyncio.run(pruned()) == 601


def test_refusals_name_the_line_and_the_path_with_and_without_progress(agent: Client) -> None:
    agent.apply("networks: [{name: big, id: big, ip_range: 10.0.0.0/24, vxlan_vni: 7}]")
    cases = (
        ("networks:\n- {name: new}\n- {name: other, vxlan_vni: 7}", Conflict, "line 3: networks[1]: VNI 7 is taken by network big"),
        ("endpoints:\n- {name: a, network: big, host: h1, ipv4_address: 10.9.0.1}", Invalid,
         "line 2: endpoints[0].ipv4_address: '10.9.0.1': expected a host address of 10.0.0.0/24"),
        ("endpoints:\n- {name: a, network: nope, host: h1}", Invalid, "line 2: endpoints[0].network: 'nope': expected"),
        ("networks:\n- {name: a}\n- {name: b, mtu: 1}", Invalid, "line 3: networks[1].mtu: 1: expected at least 576"),
    )  # fmt: skip
    for text, kind, message in cases:
        for progress in (None, lambda step: None):
            for dry_run in (False, True):
                with pytest.raises(kind) as error:
                    agent.apply(text, progress=progress, dry_run=dry_run)
                assert str(error.value).startswith(message), error.value
    assert [network.name for network in agent.networks()] == ["big"]


def test_the_agent_stops_when_its_client_goes_and_the_same_document_makes_the_rest(host: Host, agent: Client) -> None:
    body = {"document": document(MANY), "progress": True}
    with host.http.stream("POST", "/apply", json=body) as response:
        for line in response.iter_lines():
            if json.loads(line)["phase"] == "written":
                break
    quiet(lambda: len(agent.endpoints()))
    made = len(agent.endpoints())
    assert 0 < made < MANY
    assert len(agent.apply(document(MANY)).changes) == MANY - made
    assert len({endpoint.ipv4 for endpoint in agent.endpoints()}) == MANY


def test_an_interrupted_command_says_what_is_done(host: Host, agent: Client, tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text(document(MANY))
    command = [sys.executable, "-m", "tools.cli.main", "--url", f"unix://{host.dir}/agent.sock", "apply", "-f", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    read_until(process, "changes written")
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130
    assert "warren: interrupted: " in output
    assert f"of {MANY + 1} changes are written, perhaps a few more; the agent stops" in output
    assert "run the same command again for the rest" in output
    quiet(lambda: len(agent.endpoints()))
    assert len(agent.endpoints()) < MANY


def test_scripts_see_no_progress(host: Host, agent: Client, tmp_path: Path) -> None:
    done = warren(host, "apply", "--json", "-f", "-", text=document(MANY))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)) == MANY + 1
    again = warren(host, "apply", "-f", "-", text=document(3))
    assert (again.stdout, again.stderr) == ("nothing to change\n", "")


def test_names_that_do_not_exist_are_told_when_they_are_written(host: Host, agent: Client) -> None:
    document = """
        networks: [{name: amber, id: amber, ip_range: 10.0.0.0/24, mode: nat, default_acl: nope}]
        endpoints: [{name: web, network: amber, host: h1, active: false}]
        services: [{name: shop, network: amber, host_port: 8000, port: 80, endpoints: [web, gone]}]
        mirrors: [{name: copy, sources: [{network: amber, endpoint: away}], to: {host: h9, interface: tap0}}]
        """
    starts = [
        "mirror copy: sources[0] names endpoint away, which network amber does not have",
        "mirror copy: to names host h9, which does not exist",
        "network amber: default_acl names ACL nope, which does not exist",
        "service shop: endpoints[1] names endpoint gone, which network amber does not have",
    ]
    for dry_run in (True, False):
        warnings = agent.apply(document, dry_run=dry_run).warnings
        assert [w for w in warnings if not w.startswith(tuple(starts))] == []
        assert len(warnings) == len(starts)
    assert all(any(problem.startswith(start) for problem in agent.status().problems) for start in starts)
    assert agent.apply(document).warnings == ()

    for words, warning in (
        (("network", "create", "new", "--default-acl", "gone"), "network new: default_acl names ACL gone"),
        (("endpoint", "create", "new", "--name", "db", "--acl", "gone"), "endpoint new/db: acls names ACL gone"),
        (("service", "add", "s", "amber", "81:80", "--endpoint", "gone"),
         "service s: endpoints[0] names endpoint gone"),
        (("mirror", "create", "m", "--from", "new/gone", "--to", "h8:tap0"), "mirror m: sources[0] names endpoint gone"),
        (("publish", "add", "new/db", "82:80"), "endpoint new/db: publish: network new is in mode flat"),
    ):  # fmt: skip
        done = warren(host, *words)
        assert done.returncode == 0, done.stderr
        assert f"warren: warning: {warning}" in done.stderr, (words, done.stderr)
        assert "warnings" not in done.stdout
    problems = warren(host, "status").stdout
    assert "specs: network new: default_acl names ACL gone, which does not exist" in problems


def test_a_network_or_host_that_does_not_exist_is_no_empty_list(host: Host, agent: Client) -> None:
    agent.apply(
        "{networks: [{name: amber, ip_range: 10.0.0.0/24}], endpoints: [{name: web, network: amber, host: h1, active: false}]}"
    )
    for option in ("--network", "--host"):
        done = warren(host, "endpoint", "list", option, "nope")
        assert (done.returncode, done.stderr) == (2, f"warren: {option[2:]} 'nope' does not exist\n")
    assert host.http.get("/endpoints?network_id=nope").json() == {"endpoints": []}  # as SAND
    assert host.http.delete("/endpoints/web?hostname=nope").status_code == 404
    assert [endpoint.name for endpoint in agent.endpoints("amber", "h1")] == ["web"]
    assert host.http.delete("/endpoints/web?hostname=h1").status_code == 204


def test_diff_says_by_its_exit_code_whether_anything_differs(host: Host, agent: Client) -> None:
    text = "networks: [{name: amber, ip_range: 10.0.0.0/24}]"
    done = warren(host, "diff", "-f", "-", text=text)
    assert (done.returncode, done.stdout) == (1, "+ network amber\n    + name: amber\n    + ip_range: 10.0.0.0/24\n")
    assert agent.networks() == ()
    agent.apply(text)
    done = warren(host, "diff", "-f", "-", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = warren(host, "diff", "-f", "-", text="networks: [{name: amber, mtu: 1400}]")
    assert (done.returncode, done.stdout) == (1, "~ network amber\n    + mtu: 1400\n")
    done = warren(host, "diff", "--prune", "-f", "-", text="networks: []")
    assert (done.returncode, done.stdout) == (1, "- network amber\n")
    done = warren(host, "diff", "-f", "-", text="networks: [{name: new}, {name: other, ip_range: nope}]")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "text",
    [
        "\0", "networks: [{name: 'a\0b'}]", '{"networks": [{"name": "a\\u0000"}]}', "a: &a [x]\nnetworks: *a",
        "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]),
        "networks: []\nnetworks: []", '{"networks": [], "networks": []}', "[" * 5000, "networks: " + "[" * 20 + "]" * 20, "x" * 8_400_000,
        "networks: [{name: " + "x" * 100_000 + "}]", "networks: [{name: amber, mtu: 1" + "0" * 5000 + "}]", "!!python/name:os.system x", "%", "--- a\n--- b",
        "networks: [{name: amber, ? [a] : b}]",
    ],
    ids=range(16),
)  # fmt: skip
def test_a_hostile_document_costs_one_line_and_exit_code_2(host: Host, agent: Client, text: str) -> None:
    for command in ("apply", "diff"):
        done = warren(host, command, "-f", "-", text=text)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith("warren: -: ")
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 500
    assert agent.networks() == ()
