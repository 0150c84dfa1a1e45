"""A laboratory as data: names, addresses, processes. Pure; tools/lab/run.py makes it real.

    <lab>-net      a namespace with two bridges, `under` (the underlay) and `mgmt`, and etcd
    <lab>-h1..hN   a host each: eth0 in the OVS bridge br-phy on the underlay, mgmt0 on the management network
    <lab>-c-NAME   a container's namespace

Nothing is in the machine's own namespace, so several laboratories use the same addresses.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/warren-lab")
DEFAULT = "lab"
PROCESSES = ("ovsdb", "ovs", "controller", "agent")
IN_CLOUDS = (*PROCESSES[:2], "metadata", "underlay", *PROCESSES[2:])
CLOUDS = ("aws", "azure", "gcp")
UNDERLAY_MTU = 1500

_NAME = re.compile(r"[a-z][a-z0-9]{0,5}\Z")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a host or of the laboratory: its command, its network namespace and its environment."""

    name: str
    netns: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    log: Path


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host of a laboratory."""

    lab: str
    number: int
    ipv6: bool = False  # the underlay is IPv6
    site: int = 0  # 0: the laboratory has no sites
    translated: bool = False  # the site is behind a router that translates outside addresses, one to one
    cloud: str = ""  # the cloud whose metadata tells the host its addresses

    @property
    def name(self) -> str:
        """h1, h2 ..."""
        return f"h{self.number}"

    @property
    def netns(self) -> str:
        """The name of this host's network namespace."""
        return f"{self.lab}-{self.name}"

    @property
    def directory(self) -> Path:
        """The directory of the host's databases, sockets and logs."""
        return RUN / self.lab / self.name

    @property
    def vtep(self) -> str:
        """The host's address on the underlay."""
        return f"fd98::{10 + self.number}" if self.ipv6 else f"198.18.0.{10 + self.number}"

    @property
    def underlay(self) -> str:
        """The same with its prefix length."""
        return f"{self.vtep}/{64 if self.ipv6 else 24}"

    @property
    def inside(self) -> str:
        """The bridge of the underlay that this host is on."""
        return f"under{self.site or ''}"

    @property
    def public(self) -> str:
        """The host's address on the internet of the laboratory."""
        return f"198.18.2.{10 + self.number}"

    @property
    def outside(self) -> str:
        """The address of the host's interface to the outside."""
        return f"198.18.3.{10 + self.number}" if self.translated else self.public

    @property
    def management(self) -> str:
        """The host's address on the management network."""
        return f"198.18.1.{10 + self.number}"

    @property
    def socket(self) -> Path:
        """The URL of the agent's API."""
        return self.directory / "agent.sock"

    def environment(self) -> tuple[tuple[str, str], ...]:
        """The environment of Warren's processes on this host."""
        directory = str(self.directory)
        return (
            *self._place_environment(),
            ("WARREN_HOST", self.name),
            ("WARREN_MACHINE_ID", f"{self.lab}-{self.name}"),
            ("WARREN_ETCD", "http://198.18.1.1:2379"),
            ("WARREN_OVSDB", f"unix:{directory}/db.sock"),
            ("WARREN_SOCKET", str(self.socket)),
            ("WARREN_HTTP", f"{self.management}:9999"),
            ("WARREN_API", f"http://{self.management}:9999"),
            ("WARREN_TRUSTED_NETWORK", "on"),
            ("WARREN_UNDERLAY_MTU", str(UNDERLAY_MTU)),
            ("WARREN_RESYNC_S", "10"),
            ("WARREN_GAUGE_S", "2"),
            ("WARREN_ADVERTISE_S", "3"),
            ("WARREN_DOCKER_SOCKET", f"{directory}/docker-plugin.sock"),
            ("WARREN_DOCKER_NAMES", "sand"),
            ("WARREN_DOCKER_SWEEP_S", "4"),
            ("WARREN_DOCKER_ENGINE", f"{directory}/docker.sock"),
            ("WARREN_DOCKER_MIRROR", "mirror0"),
            ("WARREN_DNS", "127.0.0.1"),
            ("OVS_RUNDIR", directory),
            ("OVS_DBDIR", directory),
            ("OVS_LOGDIR", directory),
        )

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of its processes, in the order of their start."""
        return IN_CLOUDS if self.cloud else PROCESSES

    def _place_environment(self) -> tuple[tuple[str, str], ...]:
        if self.cloud:
            return (("WARREN_UNDERLAY", "cloud"),)
        vtep = ("WARREN_VTEP", self.vtep)
        if not self.site:
            return (vtep,)
        public = f",public={self.public}" if self.translated else ""
        return vtep, ("WARREN_SITE", f"s{self.site}"), ("WARREN_OUTSIDE", f"{self.outside}@out0{public}")

    def process(self, name: str) -> Process:
        """The process with one of the names in `processes`."""
        directory = self.directory
        programs = Path(sys.executable).parent
        commands: dict[str, tuple[str, ...]] = {
            "ovsdb": ("ovsdb-server", f"--remote=punix:{directory}/db.sock", f"--unixctl={directory}/ovsdb.ctl",
                      f"--pidfile={directory}/ovsdb-server.pid", "--no-chdir", "-vconsole:warn", f"{directory}/conf.db"),
            "ovs": ("ovs-vswitchd", f"--pidfile={directory}/ovs-vswitchd.pid", f"--unixctl={directory}/ovs-vswitchd.ctl",
                    "--no-chdir", "-vconsole:warn", f"unix:{directory}/db.sock"),
            "controller": (str(programs / "ryu-manager"), "--ofp-tcp-listen-port", "6653",
                           "controller.apps.overlay", "controller.apps.gauge"),
            "agent": (str(programs / "warren-agent"),),
            "metadata": (sys.executable, "-m", "tools.lab.metadata", "--instance", f"{directory}/instance.json"),
            "underlay": (sys.executable, "-m", "underlay.main", "--provider", self.cloud, "--user", "nobody",
                         "--config", f"{directory}/cloud-network.toml", "--state", f"{directory}/cloud"),
        }  # fmt: skip
        return Process(name, self.netns, commands[name], self.environment(), directory / f"{name}.log")


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A whole laboratory."""

    name: str
    size: int
    ipv6: bool = False  # the underlay is IPv6
    sites: int = 0  # so many sites share the hosts, one after the other; the last one is behind a translating router
    clouds: tuple[str, ...] = ()  # the cloud of each site; clouds translate all outside addresses

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError("a laboratory's name is a letter and up to five letters or digits")
        if not 1 <= self.size <= 99:
            raise ValueError("a laboratory has 1 to 99 hosts")
        if self.clouds:
            self._check_clouds()
        elif self.sites and not (2 <= self.sites <= 9 and self.size % self.sites == 0):
            raise ValueError("a laboratory has 2 to 9 sites, with the same number of hosts each")

    def _check_clouds(self) -> None:
        if len(self.clouds) != self.sites or not set(self.clouds) <= set(CLOUDS):
            raise ValueError(f"clouds are {', '.join(CLOUDS)}; each is a site")
        if len(self.clouds) > 9 or self.size % self.sites:
            raise ValueError("a laboratory has 1 to 9 clouds, with the same number of hosts each")
        if self.ipv6:
            raise ValueError("a laboratory in clouds has an IPv4 underlay")

    @staticmethod
    def parse(name: str, text: str) -> LabPlan:
        """The plan of a laboratory whose state is `text`."""
        state = json.loads(text)
        return LabPlan(name, state["size"], state.get("ipv6", False), state.get("sites", 0), tuple(state.get("clouds", ())))

    @property
    def text(self) -> str:
        """The plan as JSON, for `parse`."""
        return json.dumps({"size": self.size, "ipv6": self.ipv6, "sites": self.sites, "clouds": self.clouds})

    @property
    def directory(self) -> Path:
        """The directory of everything that the laboratory keeps."""
        return RUN / self.name

    @property
    def hosts(self) -> tuple[HostPlan, ...]:
        """h1 ... hN."""
        each = self.size // self.sites if self.sites else self.size
        sites = {number: (number - 1) // each + 1 if self.sites else 0 for number in range(1, self.size + 1)}
        clouds = {number: self.clouds[site - 1] if self.clouds else "" for number, site in sites.items()}
        return tuple(
            HostPlan(self.name, n, self.ipv6, site, bool(clouds[n]) or site == self.sites > 0, clouds[n])
            for n, site in sites.items()
        )

    @property
    def netns(self) -> str:
        """The namespace that holds the underlay, the management network and etcd."""
        return f"{self.name}-net"

    def host(self, name: str) -> HostPlan | None:
        """The host of that name."""
        return next((host for host in self.hosts if host.name == name), None)

    def etcd(self) -> Process:
        """The laboratory's etcd."""
        data = self.directory / "etcd"
        client, peer = "http://198.18.1.1:2379", "http://127.0.0.1:2380"
        command = ("etcd", "--data-dir", str(data), "--listen-client-urls", client, "--advertise-client-urls", client,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                   "--initial-cluster", f"default={peer}")  # fmt: skip
        return Process("etcd", self.netns, command, (), self.directory / "etcd.log")


def container_netns(lab: str, name: str) -> str:
    """The namespace of a container of a laboratory. Raises `ValueError` for a name that no container can have."""
    if not _CONTAINER.fullmatch(name):
        raise ValueError(f"container {name!r}: expected letters, digits, '.', '_' or '-', at most 63, first a letter or digit")
    return f"{lab}-c-{name}"
