"""An instance in a cloud: a namespace with NICs, and another that is the cloud. The cloud's links are point to point and it answers ARP for all,
as clouds do; its metadata service listens on 169.254.169.254."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.waiting import eventually

REMOTE, REMOTE6 = "203.0.113.9", "2001:db8:9::9"  # somebody on the Internet
ROUTER6 = "fe80::1"
USER = "nobody"


class Cloud:
    """The two namespaces, and what runs in them."""

    def __init__(self, name: str, directory: Path, cloud: str, nics: Sequence[dict[str, Any]]) -> None:
        self.name, self.directory = name, directory
        self.host, self.fabric = f"{name}-host", f"{name}-fabric"
        self.instance: dict[str, Any] = {
            "cloud": cloud, "name": "web", "region": {"aws": "us-west-2", "azure": "westus", "gcp": "us-west1"}[cloud],
            "zone": {"aws": "us-west-2a", "azure": "1", "gcp": "us-west1-b"}[cloud], "vpc": "vpc-1", "nics": list(nics), "faults": {},
        }  # fmt: skip
        self.log = directory / "requests"
        self.state = directory / "state"
        self.config = directory / "cloud-network.toml"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.server: subprocess.Popen[bytes] | None = None

    # ---- the world

    def up(self) -> None:
        """Make the namespaces and the metadata service."""
        self.write()
        self.config.write_text('[System]\nRefreshTimer="1s"\nLogLevel="debug"\n')
        for netns in (self.host, self.fabric):
            run("ip", "netns", "add", netns)
            self.ip(netns, "link set lo up")
        settings = ("ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv4.conf.all.proxy_arp", "ipv4.conf.default.proxy_arp",
                    "ipv6.conf.all.proxy_ndp")  # fmt: skip
        run(*self.inside(self.fabric), "sysctl", "-q", "-w", *(f"net.{setting}=1" for setting in settings))
        run(*self.inside(self.fabric), "sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        for address in ("169.254.169.254/32", f"{REMOTE}/32", f"{REMOTE6}/128"):
            self.ip(self.fabric, f"addr add {address} dev lo")
        for number in range(len(self.instance["nics"])):
            self.plug(number)
        self.dhcp()
        self.server = self.start(self.fabric, "metadata.log", sys.executable, "-m", "tools.lab.metadata", "--instance",
                                 str(self.directory / "instance.json"), "--log", str(self.log))  # fmt: skip
        eventually(lambda: "LISTEN" in run(*self.inside(self.fabric), "ss", "-Hltn", "sport = :80"))

    def plug(self, number: int) -> None:
        """Connect a NIC: ethN here, fN in the cloud, with the routes of the cloud to its addresses."""
        nic, far = self.instance["nics"][number], f"f{number}"
        self.ip(self.host, f"link add eth{number} address {nic['mac']} type veth peer name {far} netns {self.fabric}")
        self.ip(self.fabric, f"link set {far} up", f"addr add {ROUTER6}/64 dev {far} nodad")
        self._deliver(number, nic)
        for text in nic["subnets"]:
            if ip_network(text).version == 4:
                self.ip(self.fabric, f"addr add {ip_network(text)[1]}/32 dev lo", check=False)

    def dhcp(self) -> None:
        """Give the first NIC what DHCP and router advertisements give it."""
        first = self.instance["nics"][0]
        address = ip_interface(f"{first['addresses'][0]}/{ip_network(first['subnets'][0]).prefixlen}")
        gateway = first.get("gateway") or address.network[1]
        self.ip(self.host, "link set eth0 up", f"addr add {address} dev eth0", f"route add default via {gateway} dev eth0 onlink")

    def advertise(self, number: int) -> None:
        """Give a NIC the default route of a router advertisement."""
        self.ip(
            self.host,
            f"link set eth{number} up",
            f"-6 route replace default via {ROUTER6} dev eth{number} metric {1024 + number} proto ra",
        )

    def down(self) -> None:
        """End everything."""
        self.stop()
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        for netns in (self.host, self.fabric):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True)

    def inside(self, netns: str) -> tuple[str, ...]:
        """The words that run a command in a namespace."""
        return ("nsenter", f"--net=/run/netns/{netns}", "--")

    def ip(self, netns: str, *lines: str, check: bool = True) -> None:
        """Run lines of ip(8) in a namespace."""
        for line in lines:
            done = subprocess.run(["ip", "-n", netns, *line.split()], capture_output=True, text=True)
            assert not check or not done.returncode, f"ip {line}: {done.stderr}"

    def start(self, netns: str, log: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process in a namespace."""
        with (self.directory / log).open("ab") as output:
            return subprocess.Popen([*self.inside(netns), *command], stdout=output, stderr=output, start_new_session=True)

    # ---- the instance

    def write(self, **changes: Any) -> None:
        """Change the instance, as the metadata service tells it."""
        self.instance |= changes
        temporary = self.directory / "instance.new"
        temporary.write_text(json.dumps(self.instance))
        temporary.replace(self.directory / "instance.json")

    def nic(self, number: int, **changes: Any) -> None:
        """Change a NIC, in the metadata and in the cloud's routes."""
        before = self.instance["nics"][number]
        after = {**before, **changes}
        for text in {*before["addresses"], *before.get("prefixes", ())} - {*after["addresses"], *after.get("prefixes", ())}:
            self.ip(self.fabric, f"route del {text} dev f{number}", check=False)
        self._deliver(number, after)
        self.write(nics=[after if index == number else nic for index, nic in enumerate(self.instance["nics"])])

    def _deliver(self, number: int, nic: dict[str, Any]) -> None:
        """Let the cloud send to a NIC what is for its addresses, and, without ARP, what is for its prefixes."""
        for text in nic["addresses"]:
            self.ip(self.fabric, f"route replace {text} dev f{number}")
        for text in nic.get("prefixes", ()):
            same = [address for address in nic["addresses"] if (":" in address) == (":" in text)]
            self.ip(self.fabric, f"route replace {text} via {same[0]} dev f{number} onlink")

    # ---- the daemon

    def begin(self, *options: str, user: str = USER) -> None:
        """Start the daemon and wait until it has read the metadata."""
        self.start_daemon(*options, user=user)
        eventually(lambda: self.status()["age_s"] is not None)

    def start_daemon(self, *options: str, user: str = USER) -> None:
        """Start the daemon."""
        self.daemon = self.start(
            self.host, "underlay.log", sys.executable, "-m", "underlay.main", "--provider", self.instance["cloud"], "--config",
            str(self.config), "--state", str(self.state), "--user", user, *options,
        )  # fmt: skip

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon."""
        if self.daemon is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.daemon.pid, how)
            self.daemon.wait(30)
            self.daemon = None

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.daemon is not None
        return self.daemon.pid

    def curl(self, path: str, *options: str) -> str:
        """What curl prints for a path of the REST API."""
        return run(*self.inside(self.host), "curl", "-s", "-m", "10", *options, f"http://127.0.0.1:5209{path}")

    def status(self) -> dict[str, Any]:
        """The daemon's status."""
        text = self.curl("/api/cloud/status") if self.daemon is not None else ""
        assert text, "the daemon does not answer"
        return json.loads(text)  # type: ignore[no-any-return]

    def cnctl(self, *words: str) -> str:
        """What cnctl prints in the instance."""
        shell = 'mount -t sysfs none /sys && exec "$@"'  # sysfs has the links of the namespace in which it was mounted
        command = ("unshare", "-m", "sh", "-c", shell, "sh", sys.executable, "-m", "underlay.cnctl", *words)
        return run(*self.inside(self.host), *command)

    # ---- what the kernel has

    def addresses(self, number: int, *, ours: bool = False) -> list[str]:
        """The global addresses of a NIC; only those that the daemon has added."""
        rows = json.loads(run("ip", "-n", self.host, "-j", "addr", "show", f"eth{number}"))[0]["addr_info"]
        return sorted(
            f"{row['local']}/{row['prefixlen']}"
            for row in rows
            if row["scope"] == "global" and (not ours or row.get("noprefixroute"))
        )

    def rules(self, version: int = 4) -> list[str]:
        """The rules but the kernel's, in iproute2's words."""
        lines = run("ip", "-n", self.host, f"-{version}", "-d", "rule").splitlines()
        return sorted(
            line.split(":", 1)[1].strip()
            for line in lines
            if "proto kernel" not in line and not line.endswith(("lookup local", "lookup main", "lookup default"))
        )

    def routes(self, table: object, version: int = 4) -> list[str]:
        """The routes of a table."""
        done = subprocess.run(
            ["ip", "-n", self.host, f"-{version}", "route", "show", "table", str(table)], capture_output=True, text=True
        )
        return sorted(line.strip() for line in done.stdout.splitlines())

    def index(self, number: int) -> int:
        """The ifindex of a NIC."""
        return int(json.loads(run("ip", "-n", self.host, "-j", "link", "show", f"eth{number}"))[0]["ifindex"])

    def table(self, number: int) -> int:
        """The routing table of a NIC."""
        return 9999 + self.index(number)

    def answers(self, address: str, source: str | None = None) -> bool:
        """Whether a ping from the Internet is answered."""
        source = source or (REMOTE if ip_address(address).version == 4 else REMOTE6)
        return not subprocess.run(
            [*self.inside(self.fabric), "ping", "-c1", "-W2", "-I", source, address], capture_output=True
        ).returncode

    def way_out(self, address: str) -> set[str]:
        """The cloud's links at which answers of an address to pings from the Internet arrive; empty without answers."""
        kind = "icmp" if ip_address(address).version == 4 else "icmp6"
        dumps = {}
        for number in range(len(self.instance["nics"])):
            command = ["tcpdump", "--immediate-mode", "-lni", f"f{number}", "-Q", "in", f"{kind} and src {address}"]
            dumps[f"f{number}"] = subprocess.Popen(
                [*self.inside(self.fabric), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        for dump in dumps.values():
            assert dump.stderr is not None
            while "listening" not in dump.stderr.readline():
                assert dump.poll() is None, "tcpdump has ended"
        deadline = time.monotonic() + 20
        while not self.answers(address) and time.monotonic() < deadline:
            pass
        links = set()
        for name, dump in dumps.items():
            dump.terminate()
            output, _ = dump.communicate()
            if "echo reply" in output:
                links.add(name)
        return links

    def complaints(self) -> list[str]:
        """Lines of the daemon's log that someone should look at."""
        lines = (self.directory / "underlay.log").read_text().splitlines()
        return [line for line in lines if any(word in line for word in (" WARNING ", " ERROR ", " CRITICAL ", "Traceback"))]


def run(*command: str) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


@contextmanager
def instance(name: str, cloud: str, nics: Sequence[dict[str, Any]]) -> Iterator[Cloud]:
    """An instance in a cloud, gone at the end with all that it was made of."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # for the daemon's user
        world = Cloud(f"{name}{os.getpid()}", Path(directory), cloud, nics)
        try:
            world.up()
            yield world
        finally:
            world.down()
    assert world.name not in run("ip", "netns", "list")
