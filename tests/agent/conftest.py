"""Fixture: one whole host in a network namespace, with a real Open vSwitch, etcd, controller and agent."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ovs.conftest import Switch, _usable
from tests.programs import program
from tests.waiting import LIMIT_S

ROOT = Path(__file__).parent.parent.parent
ETCD = "http://127.0.0.1:2379"  # of the namespace


class Host:
    """The processes of a host, and the containers (namespaces) of a test."""

    def __init__(self) -> None:
        self.switch = Switch(dummy=False)
        self.dir = self.switch.dir
        self.env = {k: v for k, v in self.switch.env.items() if not k.startswith(("WARREN_", "SAND_"))} | {
            "WARREN_HOST": "h1", "WARREN_VTEP": "192.0.2.1", "WARREN_UNDERLAY_MTU": "1500", "WARREN_ETCD": ETCD,
            "WARREN_OVSDB": self.switch.remote, "WARREN_SOCKET": f"{self.dir}/agent.sock", "WARREN_HTTP": "127.0.0.1:9999",
            "WARREN_API": f"unix://{self.dir}/agent.sock", "WARREN_ATTACH_TIMEOUT_S": "8", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.namespaces: list[str] = []
        http = httpx.HTTPTransport(uds=f"{self.dir}/agent.sock")
        self.http = httpx.Client(base_url="http://agent", transport=http, timeout=LIMIT_S, trust_env=False)
        try:
            for name in ("etcd", "controller", "agent"):
                self.start(name)
        except BaseException:
            self.close()
            raise

    def start(self, name: str) -> None:
        """Start a process; for the agent, wait until it answers."""
        programs = Path(sys.executable).parent
        command = {
            "etcd": ["etcd", "--data-dir", f"{self.dir}/etcd", "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD],
            "controller": [str(programs / "ryu-manager"), "controller.apps.overlay"],
            "agent": [sys.executable, "-m", "agent.main"],
        }[name]
        with (self.dir / f"{name}.log").open("ab") as log:
            prefix = ["ip", "netns", "exec", self.switch.netns]
            self.processes[name] = subprocess.Popen(prefix + command, env=self.env, stdout=log, stderr=log, cwd=ROOT)
        if name == "agent":
            self.until(lambda: self.http.get("/status").json()["hosts"][0]["current"])

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process, and wait for its end."""
        self.processes[name].send_signal(number)
        self.processes[name].wait(60)

    def until(self, condition: object, timeout_s: float = LIMIT_S) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        error: object = "it does not hold"
        while time.monotonic() < deadline:
            try:
                if condition():  # type: ignore[operator]
                    return
            except (httpx.HTTPError, LookupError, KeyError) as failure:
                error = failure
            time.sleep(0.05)
        raise AssertionError(f"{error}\n{self.log('agent')}\n{self.log('controller')}")

    def log(self, name: str) -> str:
        """The end of a process's log."""
        return (self.dir / f"{name}.log").read_text()[-3000:]

    def keys(self, *words: str) -> str:
        """Write, delete or print keys in etcd, past the agent."""
        return self.switch.exec(*program("store_keys", ETCD, *words))

    def container(self) -> str:
        """A new namespace's path."""
        name = f"wt{uuid.uuid4().hex[:8]}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces.append(name)
        return f"/run/netns/{name}"

    def inside(self, netns: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        name = netns.rpartition("/")[2]
        return subprocess.run(
            ["ip", "netns", "exec", name, *command], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    def network(self, **body: object) -> str:
        """A new network's id."""
        answer = self.http.post("/networks", json={"name": f"n{uuid.uuid4().hex[:8]}", **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["network"]["id"])

    def attach(self, network_id: str, netns: str, **body: object) -> dict[str, object]:
        """A new endpoint."""
        params = {"ns_handle_path": netns, "set_addr": True, "move_veth": True}
        answer = self.http.post(
            "/endpoints", json={"network_id": network_id, "activate": True, "activate_params": params, **body}
        )
        assert answer.status_code == 201, (answer.text, self.log("agent"))
        endpoint: dict[str, object] = answer.json()["endpoint"]
        return endpoint

    def veths(self) -> set[str]:
        """Warren's veths on the host."""
        lines = self.switch.exec("ip", "-br", "link").splitlines()
        return {line.split("@")[0].split()[0] for line in lines if line.startswith("wv")}

    def ports(self) -> set[str]:
        """The ports of the bridge."""
        return set(self.switch.vsctl("list-ports", "br-warren").split())

    def close(self) -> None:
        """End everything."""
        self.http.close()
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=LIMIT_S)
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        self.switch.close()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host for the tests of a module."""
    if reason := _usable() or (None if shutil.which("etcd") else "needs etcd"):
        pytest.skip(reason)
    host = Host()
    try:
        yield host
    finally:
        host.close()
