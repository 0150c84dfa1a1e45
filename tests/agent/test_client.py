"""The public client against a real agent: the examples of docs/client.md, and captures for asyncio."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import ROOT, Host
from warren.client import AsyncClient, Client, Conflict, Invalid, NotFound, PublishedPort, Unavailable

DOCUMENT = ROOT / "docs" / "client.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = 8000


def serve(host: Host, netns: str, directory: Path) -> subprocess.Popen[bytes]:
    """A web server in a container."""
    name = netns.rpartition("/")[2]
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "http.server", str(PORT), "--directory", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host.until(lambda: f":{PORT}" in host.inside(netns, "ss", "-ltn").stdout)
    return process


def test_the_examples_of_the_document_work(host: Host, tmp_path: Path) -> None:
    containers = {name: host.container() for name in ("web", "db")}
    host.inside(containers["web"], "ip", "link", "set", "lo", "up")  # the agent may connect from the server's own namespace
    server = serve(host, containers["web"], tmp_path)
    examples = EXAMPLE.findall(DOCUMENT.read_text())
    assert len(examples) >= 8
    namespace: dict[str, Any] = {"__name__": "example"}
    try:
        for number, example in enumerate(examples):
            text = example.replace("/run/warren/agent.sock", f"{host.dir}/agent.sock")
            for name, path in containers.items():
                text = text.replace(f"/run/netns/{name}", path)
            exec(compile(text, f"docs/client.md, example {number + 1}", "exec"), namespace)
    finally:
        server.kill()
        server.wait()
    assert namespace["piece"].startswith(bytes.fromhex("d4c3b2a1"))


def test_every_operation_works(host: Host) -> None:
    with Client(f"unix://{host.dir}/agent.sock") as agent:
        assert re.fullmatch(r"v\d+\.\d+\.\d+", agent.version())
        for name, ip_range in (("one", "10.1.0.0/24"), ("two", "10.2.0.0/24")):
            agent.create_network(name, ip_range=ip_range, mode="nat", labels={"made": "here"})
        assert {network.name: network.labels for network in agent.networks()} == {n: {"made": "here"} for n in ("one", "two")}
        endpoint = agent.create_endpoint("one", netns=host.container(), name="e", ipv4="10.1.0.9")
        assert (endpoint.ipv4, endpoint.active, endpoint.network) == ("10.1.0.9/24", True, "one")
        agent.publish("one/e", PublishedPort(host_port=8080, port=80))
        agent.publish("e", PublishedPort(host_port="9000-9001", port="9000-9001", proto="udp"))
        assert [port.host_port for port in agent.endpoint("e").published] == [8080, "9000-9001"]
        for wrong in (PublishedPort(host_port=0, port=80), PublishedPort(host_port="1-2", port=1)):
            with pytest.raises(Invalid) as invalid:
                agent.publish("e", wrong)
            assert "endpoints[" not in str(invalid.value)
        agent.unpublish("e", PublishedPort(host_port=8080, port=80))
        assert [port.proto for port in agent.endpoint("e").published] == ["udp"]

        assert agent.put_router("r", ["one", "two"]).networks == ("one", "two")
        assert agent.router("r").ranges == {"one": ["10.1.0.0/24"], "two": ["10.2.0.0/24"]}
        assert [router.name for router in agent.routers()] == ["r"]
        assert agent.put_service("s", "one", 8081, 80, endpoints=["e"]).host_port == 8081
        assert agent.service("s").members == ("e on h1",)
        assert agent.put_mirror("m", sources=[{"network": "one"}], to={"gre": "192.0.2.9"}).direction == "both"
        assert [mirror.sources for mirror in agent.mirrors()] == [({"network": "one"},)]
        agent.apply("acls: [{name: wall, rules: [{actions: {allow: 0}}]}]\nmeters: [{name: slow, rate: 100}]")
        assert agent.acls().acls[0].name == "wall"
        assert agent.acl("wall").rules[0].rule == {"actions": {"allow": 0}}
        assert [(meter.name, meter.rate) for meter in agent.meters()] == [("slow", 100)]
        assert {flow.table for flow in agent.flows("h1")} > {"CLASSIFY"}
        assert [agent.host("h1").name] == [one.name for one in agent.hosts()] == ["h1"]
        port = agent.add_port("nothing0", "two")
        assert [(p.port, p.network, p.vlan) for p in agent.ports()] == [("nothing0", "two", None)]
        assert port.host == "h1"
        agent.remove_port("nothing0", "two")
        with pytest.raises(NotFound) as not_found:
            agent.remove_port("nothing0", "two")
        assert not_found.value.what == "port"
        with pytest.raises(Conflict) as conflict:
            agent.create_network("one")
        assert conflict.value.field == "name"
        with pytest.raises(NotFound):
            agent.host("nope")
        for delete, name in (
            (agent.delete_mirror, "m"),
            (agent.delete_service, "s"),
            (agent.delete_router, "r"),
            (agent.delete_acl, "wall"),
        ):
            delete(name)  # type: ignore[operator]
        agent.delete_endpoint("one/e")
        agent.apply("networks: []\nmeters: []", prune=True)
        assert agent.networks() == ()


def test_graph_overlay_asks_the_agent(host: Host, tmp_path: Path) -> None:
    url = f"unix://{host.dir}/agent.sock"
    with Client(url) as agent:
        agent.create_network("amber", ip_range="10.0.0.0/24")
        for name in ("a", "b"):
            agent.create_endpoint("amber", netns=host.container(), name=name)

        def draw(name: str, *words: str) -> str:
            command = [sys.executable, "-m", "tools.graph", "-o", str(tmp_path / name), "--url", url, *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return (tmp_path / name).read_text()

        nodes = json.loads(draw("all.json"))["nodes"]
        assert {"a", "b"} <= {str(node.get("name")) for node in nodes}, nodes
        assert "CLASSIFY" in draw("way.dot", "--path", "a", "b")
        assert "CLASSIFY" in draw("tables.dot", "--pipeline", "h1")
        command = [sys.executable, "-m", "tools.graph", "-o", str(tmp_path / "x.dot"), "--url", url, "--pipeline", "nope"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, "graph_overlay: host 'nope' does not exist\n")
        for name in ("a", "b"):
            agent.delete_endpoint(name)
        agent.delete_network("amber")


def test_the_client_for_asyncio_captures_packets(host: Host) -> None:
    first, second = host.container(), host.container()

    async def use() -> None:
        async with AsyncClient(f"unix://{host.dir}/nobody.sock", f"unix://{host.dir}/agent.sock") as agent:
            await agent.create_network("amber", ip_range="10.0.0.0/24")
            await asyncio.gather(*(agent.create_endpoint("amber", netns=n, name=e) for n, e in ((first, "a"), (second, "b"))))
            target = (await agent.endpoint("b")).ipv4.partition("/")[0]
            async with agent.capture("a", direction="in", match=[{"dl_type": 0x800}]) as capture:
                ping = await asyncio.create_subprocess_exec(
                    "ip", "netns", "exec", first.rpartition("/")[2], "ping", "-c1", target, stdout=asyncio.subprocess.DEVNULL
                )
                received = b""
                async for piece in capture:
                    received += piece
                    if len(received) > 24:
                        break
                assert await ping.wait() == 0
                assert (await capture.counts()).packets == 1
            with pytest.raises(Unavailable) as unavailable:
                await agent.connect("amber", target, 9)
            assert unavailable.value.service == f"{target}:9"
            await asyncio.gather(agent.delete_endpoint("a"), agent.delete_endpoint("b"))
            await agent.delete_network("amber")

    asyncio.run(use())
