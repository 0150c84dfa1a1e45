"""Makes laboratories real and takes them away again: namespaces, Open vSwitch, etcd, Warren's own processes.

State is in /run/warren-lab/<lab>/: lab.json and a record of every process (pid and start time: an old pid may be another process's)."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tools.lab import clouds, sites
from tools.lab.machine import PATIENCE, kernel_datapath
from tools.lab.plan import PROCESSES, RUN, HostPlan, LabPlan, Process, container_netns

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
Progress = Callable[[str], None]


class LabError(Exception):
    """A laboratory's error for the user, in one line."""


def sh(*command: str, check: bool = True) -> str:
    """Run a command and return its output. Raises `LabError` with its standard error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def in_netns(netns: str, *command: str) -> tuple[str, ...]:
    """The command line that runs `command` in a network namespace and changes nothing else."""
    return ("nsenter", f"--net=/run/netns/{netns}", "--", *command)


# ---- state ----------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The names of the laboratories that are up, including half-started ones."""
    return sorted(path.parent.name for path in RUN.glob("*/lab.json"))


def load(name: str) -> LabPlan:
    """The plan of a laboratory that is up."""
    path = RUN / name / "lab.json"
    if not path.exists():
        running = ", ".join(names()) or "none"
        raise LabError(f"laboratory {name!r} is not up (up are: {running}); start it with: warren lab up --lab {name}")
    return LabPlan.parse(name, path.read_text())


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Lock a laboratory against changes by other commands. Raises `LabError` if one has the lock."""
    if os.geteuid():
        raise LabError("a laboratory needs root: it makes network namespaces")
    RUN.mkdir(parents=True, exist_ok=True)
    with (RUN / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"laboratory {name!r} is being changed by another command") from None
        yield


# ---- processes ------------------------------------------------------------------------------------------------------


def _started(pid: int) -> str | None:
    """When a process was started (field 22 of /proc/PID/stat): with its pid, its identity."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # killed, its first thread is a zombie at once, while the others still hold its files and locks
    return None if state == "Z" and int(rest[16]) <= 1 else rest[18]


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _started(pid) is not None


def _record(plan: LabPlan, host: str, process: str) -> Path:
    return plan.directory / host / f"{process}.process" if host else plan.directory / f"{process}.process"


def pid_of(plan: LabPlan, host: str, process: str) -> int | None:
    """The pid of a running process."""
    try:
        pid, started = _record(plan, host, process).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _started(int(pid)) == started else None


def start_process(plan: LabPlan, host: str, process: Process) -> None:
    """Start a process unless it runs."""
    if pid_of(plan, host, process.name) is not None:
        return
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WARREN_", "OVS_"))} | dict(process.environment)
    environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    with process.log.open("ab") as log:
        child = subprocess.Popen(
            in_netns(process.netns, *process.command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd=plan.directory,
        )  # fmt: skip
    _record(plan, host, process.name).write_text(f"{child.pid} {_started(child.pid)}")


def stop_process(plan: LabPlan, host: str, name: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process and what it has started; SIGKILL after five seconds."""
    pid = pid_of(plan, host, name)
    if pid is None:
        return
    for attempt in (how, signal.SIGKILL):
        try:
            os.killpg(pid, attempt) if name != "controller" or attempt is not signal.SIGTERM else os.kill(pid, attempt)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 5
        while _started(pid) is not None and time.monotonic() < deadline:
            _reap(pid)
            time.sleep(0.02)
        if _started(pid) is None:
            break
    _record(plan, host, name).unlink(missing_ok=True)


def _reap(pid: int) -> None:
    """Reap the process if it is a child of this one, so that no zombie stays."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


# ---- up -------------------------------------------------------------------------------------------------------------


def up(plan: LabPlan, progress: Progress = lambda _: None, processes: tuple[str, ...] = PROCESSES) -> None:
    """Start a laboratory and wait until every host is up. If anything fails, nothing is left. Raises `LabError`."""
    with locked(plan.name):
        if (plan.directory / "lab.json").exists():
            raise LabError(f"laboratory {plan.name!r} is up already; take it away with: warren lab down --lab {plan.name}")
        try:
            _up(plan, progress, processes)
        except BaseException:
            _down(plan)
            raise


def _up(plan: LabPlan, progress: Progress, processes: tuple[str, ...]) -> None:
    plan.directory.mkdir(parents=True)
    (plan.directory / "lab.json").write_text(plan.text)
    progress("networks")
    _networks(plan)
    start_process(plan, "", plan.etcd())
    for host in plan.hosts:
        progress(f"Open vSwitch of {host.name}")
        _open_vswitch(plan, host)
    for host in plan.hosts:
        for name in [name for name in host.processes[2:] if name not in PROCESSES or name in processes]:
            progress(f"{name} of {host.name}")
            start_process(plan, host.name, host.process(name))
    if "agent" in processes:
        progress("all hosts report")
        wait_until_up(plan)
    _warm_up(plan)


def _warm_up(plan: LabPlan) -> None:
    """OVS loses the first packet to a VTEP whose MAC it has not seen; it sees one once the tunnel port is there."""
    for host in plan.hosts:
        for other in plan.hosts:
            if other is not host and other.site == host.site:
                sh(*in_netns(host.netns, "ping", "-c1", "-W1", other.vtep), check=False)


def _networks(plan: LabPlan) -> None:
    net = plan.netns
    sh("ip", "netns", "add", net)
    batch = ["link set lo up"]
    for bridge in (*dict.fromkeys(host.inside for host in plan.hosts), "mgmt"):
        batch += [f"link add {bridge} type bridge forward_delay 0", f"link set {bridge} up"]
    batch += ["addr add 198.18.1.1/24 dev mgmt"]
    for host in plan.hosts:
        sh("ip", "netns", "add", host.netns)
        batch += [
            f"link add u{host.number} type veth peer name eth0 netns {host.netns}",
            f"link add m{host.number} type veth peer name mgmt0 netns {host.netns}",
            f"link set u{host.number} master {host.inside} up",
            f"link set m{host.number} master mgmt up",
        ]
    _ip_batch(net, batch)
    # the machine's filters are no business of the underlay, and cost it a lot
    filters = (f"net.bridge.bridge-nf-call-{family}=0" for family in ("iptables", "ip6tables", "arptables"))
    sh(*in_netns(net, "sysctl", "-q", "-e", "-w", *filters), check=False)
    for host in plan.hosts:
        if not (plan.ipv6 and kernel_datapath()):
            sh(*in_netns(host.netns, "sysctl", "-q", "-e", "net.ipv6.conf.eth0.disable_ipv6=1"), check=False)
        if not kernel_datapath():
            sh(*in_netns(host.netns, "sysctl", "-q", "net.ipv4.conf.eth0.arp_ignore=8"))
            sh(*in_netns(host.netns, "ethtool", "-K", "eth0", "tx", "off"))
        links = [f"link set {name} up" for name in ("lo", "eth0", "mgmt0")]
        _ip_batch(host.netns, [*links, f"addr add {host.management}/24 dev mgmt0"])
    sites.networks(plan, _ip_batch, sh)
    clouds.networks(plan, _ip_batch, sh)


def _ip_batch(netns: str, lines: list[str]) -> None:
    done = subprocess.run(["ip", "-n", netns, "-batch", "-"], input="\n".join(lines), text=True, capture_output=True)
    if done.returncode:
        raise LabError(f"ip in {netns}: {done.stderr.strip()}")


def _open_vswitch(plan: LabPlan, host: HostPlan) -> None:
    host.directory.mkdir()
    clouds.configure(host)
    sh("ovsdb-tool", "create", str(host.directory / "conf.db"), SCHEMA)
    start_process(plan, host.name, host.process("ovsdb"))
    _wait(lambda: _listens(host.directory / "db.sock"), f"ovsdb-server of {host.name}", plan, host.name, "ovsdb")
    start_process(plan, host.name, host.process("ovs"))
    database = f"--db=unix:{host.directory}/db.sock"
    sh("ovs-vsctl", database, "--timeout=10", "init")
    if not kernel_datapath():
        sh("ovs-vsctl", database, "--timeout=10", "--", "add-br", "br-phy", "--", "set", "bridge", "br-phy",
           "datapath_type=netdev", *clouds.of_bridge(host), "--", "add-port", "br-phy", "eth0")  # fmt: skip
    underlay(host)


def underlay(host: HostPlan) -> None:
    """Give a host its address on the underlay: eth0's, or that of the bridge that userspace tunnels leave by (gone with ovs-vswitchd)."""
    interface = "eth0" if kernel_datapath() else "br-phy"
    address = [] if host.cloud else [f"addr replace {host.underlay} dev {interface} nodad"]  # the cloud's metadata tells it
    _ip_batch(host.netns, [*address, f"link set {interface} up"])


def wait_until_up(plan: LabPlan, timeout_s: float = 60) -> None:
    """Wait until every host reports an agent and a connected controller. Raises `LabError`."""

    def all_up() -> bool:
        status = api(plan.hosts[0], "GET", "/status")
        hosts = {host["name"]: host for host in status["hosts"]}
        return len(hosts) == plan.size and all(h["agent"] == "alive" and h["connected"] for h in hosts.values())

    deadline = time.monotonic() + timeout_s * PATIENCE
    while True:
        for host in plan.hosts:
            for name in ("controller", "agent"):
                if pid_of(plan, host.name, name) is None:
                    raise LabError(f"{name} of {host.name} ended: {_last_lines(host.directory / f'{name}.log')}")
        reason = "not all hosts report yet"
        try:
            if all_up():
                return
        except LabError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise LabError(f"the hosts are not up within {timeout_s:g} s: {reason}")
        time.sleep(0.1)


def _wait(ready: Callable[[], bool], what: str, plan: LabPlan, host: str, process: str) -> None:
    deadline = time.monotonic() + 60 * PATIENCE
    while not ready():
        if pid_of(plan, host, process) is None or time.monotonic() > deadline:
            raise LabError(f"{what} does not start: {_last_lines(plan.directory / host / f'{process}.log')}")
        time.sleep(0.01)


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return " / ".join(lines[-5:]) or "its log is empty"


# ---- while it is up -------------------------------------------------------------------------------------------------


def api(host: HostPlan, method: str, path: str, timeout_s: float = 30, **data: object) -> dict:  # type: ignore[type-arg]
    """Send a request to a host's agent. Raises `LabError` with the answer if the agent refuses."""
    transport = httpx.HTTPTransport(uds=str(host.socket))
    try:
        with httpx.Client(transport=transport, base_url="http://agent", timeout=timeout_s * PATIENCE) as client:
            answer = client.request(method, path, json=data or None)
    except httpx.HTTPError as error:
        late = isinstance(error, httpx.TimeoutException)
        raise LabError(f"the agent of {host.name} does not answer" + (f" in {timeout_s:g} s" if late else f": {error}")) from None
    if answer.is_error:
        raise LabError(answer.json().get("error", answer.text))
    return answer.json() if answer.content else {}  # type: ignore[no-any-return]


def container(plan: LabPlan, name: str, host_name: str, network: str, **fields: object) -> dict:  # type: ignore[type-arg]
    """Make a namespace as a container, attach it to a network on a host, and return the endpoint."""
    host = plan.host(host_name)
    if host is None:
        raise LabError(f"laboratory {plan.name!r} has no host {host_name!r}; it has h1 to h{plan.size}")
    ids = [n["id"] for n in api(host, "GET", "/networks")["networks"] if network in (n["id"], n["name"])]
    if not ids:
        raise LabError(
            f"network {network!r} does not exist; make it with: warren network create {network} --ip-range 10.0.0.0/24"
        )
    netns = container_netns(plan.name, name)
    fresh = not Path(f"/run/netns/{netns}").exists()
    if fresh:
        sh("ip", "netns", "add", netns)
        sh("ip", "-n", netns, "link", "set", "lo", "up")
    activate = {"ns_handle_path": f"/run/netns/{netns}", "set_addr": True, "move_veth": True}
    try:
        body = {"network_id": ids[0], "name": name, "activate": True, "activate_params": activate, **fields}
        return api(host, "POST", "/endpoints", **body)["endpoint"]  # type: ignore[no-any-return]
    except BaseException:
        if fresh:
            sh("ip", "netns", "del", netns, check=False)
        raise


def netns_of(plan: LabPlan, name: str) -> str:
    """The namespace of a host or a container."""
    host = plan.host(name)
    netns = host.netns if host else container_netns(plan.name, name)
    if not Path(f"/run/netns/{netns}").exists():
        raise LabError(f"laboratory {plan.name!r} has no host or container {name!r}")
    return netns


def restart(plan: LabPlan, host_name: str, process: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process of a host and start it again."""
    stop(plan, host_name, process, how)
    start(plan, host_name, process)


def stop(plan: LabPlan, host_name: str, process: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process of a host (etcd: of the laboratory)."""
    where, spec = _process(plan, host_name, process)
    stop_process(plan, where, spec.name, how)


def start(plan: LabPlan, host_name: str, process: str) -> None:
    """Start a process of a host (etcd: of the laboratory); an agent listens when this returns."""
    where, spec = _process(plan, host_name, process)
    start_process(plan, where, spec)
    if process == "agent" and (host := plan.host(host_name)) is not None:
        _wait(lambda: _listens(host.socket), f"agent of {host.name}", plan, host.name, "agent")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _process(plan: LabPlan, host_name: str, process: str) -> tuple[str, Process]:
    host = plan.host(host_name)
    if host is None:
        raise LabError(f"laboratory {plan.name!r} has no host {host_name!r}; it has h1 to h{plan.size}")
    if process == "etcd":
        return "", plan.etcd()
    if process not in host.processes:
        raise LabError(f"no process {process!r}: it is one of {', '.join(host.processes)}, etcd")
    return host.name, host.process(process)


def down(name: str) -> None:
    """Take a laboratory away: its processes, namespaces and files. Works for a half-started one, too; an absent one is no error."""
    with locked(name):
        _down(LabPlan(name, 1))
    (RUN / f".{name}.lock").unlink(missing_ok=True)
    if RUN.exists() and not any(RUN.iterdir()):
        RUN.rmdir()


def _down(plan: LabPlan) -> None:
    for record in sorted(plan.directory.rglob("*.process"), key=lambda path: path.stem in ("ovsdb", "ovs", "etcd")):
        host = record.parent.name if record.parent != plan.directory else ""
        stop_process(plan, host, record.stem)
    _end_clients(plan)
    others = {sites.crypto_netns(plan.name, host.parent.name) for host in plan.directory.glob("*/conf.db")}
    others |= {path.name for path in plan.directory.glob("*/netns/*")}
    for name in (line.split(" ")[0] for line in sh("ip", "netns", "list").splitlines()):
        if name.startswith(f"{plan.name}-") or name in others:
            sh("ip", "netns", "del", name, check=False)
    shutil.rmtree(plan.directory, ignore_errors=True)


def _end_clients(plan: LabPlan) -> None:
    """DHCP clients, resolvers and charon outlive their agents, and clients keep the namespaces of their containers."""
    for written in (file for kind in ("dhcp/clients/*", "names.pid", "ipsec-*.pid") for file in plan.directory.glob(f"*/{kind}")):
        with suppress(OSError, ValueError):
            pid = int(written.read_text())
            if str(written).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
