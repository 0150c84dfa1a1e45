"""OVN's side: the same namespaces, underlay and Open vSwitch as a laboratory of Warren's, but with OVN's databases and controllers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path

from agent.linux import veth
from agent.linux.interface import Desired
from benchmarks.laboratory import HOSTS, inside, pss
from benchmarks.ovn import database as db
from benchmarks.ovn.database import Database, Operation
from benchmarks.ovn.flows import FlowMonitor
from benchmarks.ovn.programs import Programs
from benchmarks.ovn.side import NETWORK, REMOTE, Sample, Watch, ping_once, pinging, processor_ms, rules
from benchmarks.seed import FIRST_VTEP, endpoints_of
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from tools.lab import run
from tools.lab.plan import HostPlan, LabPlan, Process, container_netns

SWITCH = "bench"
MTU = 1442  # of the containers: Geneve's overhead is 58 bytes
CENTRAL = ("nb", "sb", "northd")
FREE = 150  # addresses for the endpoints of this machine, beside the first two
BATCH = 500  # endpoints of one transaction


class OvnSide:
    """Northbound and southbound database, northd, and two hosts with ovn-controller."""

    name = "OVN"

    def __init__(self, plan: LabPlan, programs: Programs) -> None:
        self.plan, self.programs, self.seeded, self.configured = plan, programs, 0, 0
        self.h1 = plan.hosts[0]
        self.network = Network.model_validate({**NETWORK, "id": "bench", "vxlan_vni": 1})
        run.up(plan, processes=())
        run.stop(plan, "h1", "etcd")
        self._central()
        for host in plan.hosts:
            self._host(host)
        self._switch()
        near, far = (self._endpoint(number) for number in (1, 2))
        self.near, self.far = (container_netns(plan.name, name) for name in ("near", "far"))
        self.target = str(far.ipv4_address)
        for endpoint, host, netns in ((near, plan.hosts[0], self.near), (far, plan.hosts[1], self.far)):
            run.sh("ip", "netns", "add", netns)
            self._attach(endpoint, host, netns)
        self.monitor = FlowMonitor(self.h1.directory, "br-int")

    def end(self) -> None:
        """End what is not the laboratory's."""
        self.monitor.end()

    # ---- processes --------------------------------------------------------------------------------------------------

    def _central(self) -> None:
        directory = self.plan.directory
        for name in CENTRAL[:2]:
            file = str(directory / f"{name}.db")
            run.sh(*self.programs.command("ovsdb-tool", "create", file, self.programs.schema(f"ovn-{name}")))
            self._start("", name, "ovsdb-server", f"--remote=punix:{directory}/{name}.sock", file)
            _until(lambda name=name: self._path(name).exists())  # type: ignore[misc]
        nb, sb = (f"unix:{self._path(name)}" for name in CENTRAL[:2])
        run.sh(*self.programs.command("ovn-nbctl", f"--db={nb}", "init"))
        run.sh(*self.programs.command("ovn-sbctl", f"--db={sb}", "init"))
        self._start("", "northd", "ovn-northd", f"--ovnnb-db={nb}", f"--ovnsb-db={sb}")

    def _host(self, host: HostPlan) -> None:
        settings = {
            "system-id": host.name, "ovn-remote": f"unix:{self._path('sb')}", "ovn-encap-type": "geneve",
            "ovn-encap-ip": host.vtep, "ovn-bridge-datapath-type": "netdev",
        }  # fmt: skip
        words = [f"external_ids:{key}={value}" for key, value in settings.items()]
        run.sh("ovs-vsctl", f"--db=unix:{host.directory}/db.sock", "set", "open_vswitch", ".", *words)
        self._controller(host)

    def _controller(self, host: HostPlan) -> None:
        self._start(host.name, "ovn-controller", "ovn-controller", f"unix:{host.directory}/db.sock")

    def _start(self, host: str, name: str, program: str, *words: str) -> None:
        plan = self.plan.host(host)
        directory, netns = (plan.directory, plan.netns) if plan else (self.plan.directory, self.plan.netns)
        command = self.programs.command(program, f"--unixctl={directory}/{name}.ctl", "--no-chdir", "-vconsole:warn", *words)
        environment = tuple(
            (f"{family}_{kind}", str(directory)) for family in ("OVN", "OVS") for kind in ("RUNDIR", "DBDIR", "LOGDIR")
        )
        run.start_process(self.plan, host, Process(name, netns, command, environment, directory / f"{name}.log"))

    def _path(self, name: str) -> Path:
        return self.plan.directory / f"{name}.sock"

    @contextmanager
    def _northbound(self) -> Iterator[Database]:
        with Database(self._path("nb"), "OVN_Northbound") as northbound:
            yield northbound

    @contextmanager
    def _southbound(self) -> Iterator[Database]:
        with Database(self._path("sb"), "OVN_Southbound") as southbound:
            yield southbound

    # ---- records ----------------------------------------------------------------------------------------------------

    def _endpoint(self, number: int) -> Endpoint:
        """An endpoint of this machine: its address is below those of the endpoints that are records only."""
        return next(endpoints_of(self.network, number - 200, number - 199, HOSTS, before=200))

    def _switch(self) -> None:
        acls = [db.insert("ACL", f"acl{n}", **self._acl(n, rule)) for n, rule in enumerate(rules(0))]
        members = db.as_set([db.named(f"acl{n}") for n in range(len(acls))])
        with self._northbound() as nb:
            nb.transact(*acls, db.insert("Logical_Switch", name=SWITCH, acls=members))
        self._settle()

    def _acl(self, number: int, rule: dict[str, object]) -> dict[str, object]:
        words = [f"ip4.dst == {rule['ipv4_dst']}", f"tcp.dst == {rule['tcp_dst']}"] if "tcp_dst" in rule else ["1"]
        return {
            "direction": "from-lport", "priority": 1000 - number, "match": " && ".join(words),
            "action": "drop" if "tcp_dst" in rule else "allow", "external_ids": db.as_map({"number": str(number)}),
        }  # fmt: skip

    def _port(self, endpoint: Endpoint) -> tuple[Operation, Operation]:
        """The operations that make a logical port and put it on the switch."""
        addresses = f"{endpoint.mac_address} {endpoint.ipv4_address} {endpoint.ipv6_address}"
        name = "port" + "".join(letter for letter in endpoint.id if letter.isalnum())
        made = db.insert("Logical_Switch_Port", name, name=endpoint.id, addresses=addresses, port_security=addresses)
        return made, db.mutate("Logical_Switch", ("name", SWITCH), "ports", "insert", db.as_set([db.named(name)]))

    def _delete(self, *endpoints: Endpoint) -> None:
        with self._northbound() as nb:
            for endpoint in endpoints:
                (row,) = nb.select("Logical_Switch_Port", ("name", endpoint.id), "_uuid")
                ports = db.as_set([["uuid", row["_uuid"]]])
                nb.transact(db.mutate("Logical_Switch", ("name", SWITCH), "ports", "delete", ports))

    def seed(self, upto: int) -> None:
        """Let the network have so many endpoints that are records only, claimed by hosts that do not exist."""
        with self._southbound() as sb:
            if not self.seeded:
                sb.transact(*(operation for number in range(1, HOSTS + 1) for operation in _chassis(number)))
            chassis = {row["name"]: row["_uuid"] for row in sb.select("Chassis", None, "name", "_uuid")}
            for first in range(self.seeded, upto, BATCH):
                batch = list(endpoints_of(self.network, first, min(first + BATCH, upto), HOSTS))
                with self._northbound() as nb:
                    nb.transact(*(operation for endpoint in batch for operation in self._port(endpoint)))
                self._settle()
                sb.transact(*(_claim(endpoint, chassis) for endpoint in batch))
        self.seeded = max(self.seeded, upto)
        self._settle()

    def _configure(self) -> int:
        """Ask northd and all controllers to say when they have done what the northbound database holds now."""
        self.configured += 1
        with self._northbound() as nb:
            nb.transact(db.update("NB_Global", None, nb_cfg=self.configured))
        return self.configured

    def _settle(self) -> None:
        """Wait until both controllers have done so."""
        number = self._configure()
        for host in self.plan.hosts:
            self._until_done(host, number)

    def _until_done(self, host: HostPlan, number: int) -> None:
        with self._southbound() as sb:
            sb.watch("Chassis_Private", ("name", host.name), "nb_cfg")
            sb.until(lambda row: row.get("nb_cfg") == number, 180)

    # ---- what is measured -------------------------------------------------------------------------------------------

    def attach(self, number: int) -> Sample:
        """Logical port, veth and Open vSwitch's port until OVN says that its flows are in and the port is up; then the first ping."""
        endpoint, netns = self._endpoint(3 + number % FREE), container_netns(self.plan.name, f"one{number}")
        run.sh("ip", "netns", "add", netns)
        sample = self._attach(endpoint, self.h1, netns)
        self._delete(endpoint)
        run.sh("ovs-vsctl", f"--db=unix:{self.h1.directory}/db.sock", "del-port", _interface(endpoint))
        inside(self.h1.netns, lambda: veth.unplug(_interface(endpoint)))
        run.sh("ip", "netns", "del", netns)
        self._settle()
        return sample

    def _attach(self, endpoint: Endpoint, host: HostPlan, netns: str) -> Sample:
        interface = _interface(endpoint)
        with self._northbound() as nb, Database(host.directory / "db.sock", "Open_vSwitch") as switch:
            nb.watch("Logical_Switch_Port", ("name", endpoint.id), "up")
            switch.watch("Interface", ("name", interface), "external_ids")
            watch = Watch(self.pids())
            # northd works while the veth is made, as it does for a cloud that knows its ports before their hosts do
            call = nb.begin(*self._port(endpoint))
            pair = _pair(endpoint, netns)
            inside(host.netns, lambda: veth.plug(pair, meanwhile=lambda: switch.transact(*_plug(endpoint))))
            nb.results(call)
            switch.until(lambda row: row.get("external_ids", {}).get("ovn-installed") == "true")
            sample = {"installed": watch.ms()}
            nb.until(lambda row: row.get("up") is True)
            sample |= {"up": watch.ms(), "processor": watch.processor_ms()}
        if netns in (self.near, self.far):
            return sample
        ping_once(netns, self.target)
        sample["ping"] = watch.ms()
        return sample

    def remote(self, number: int) -> list[float]:
        """From the logical port in the northbound database; a stand-in for the other host's controller claims it as soon as northd
        has made its binding."""
        (endpoint,) = endpoints_of(self.network, REMOTE + number, REMOTE + number + 1, HOSTS)
        with self._southbound() as sb, self._northbound() as nb:
            chassis = {row["name"]: row["_uuid"] for row in sb.select("Chassis", ("name", endpoint.host), "name", "_uuid")}
            sb.watch("Port_Binding", ("logical_port", endpoint.id), "logical_port")
            began = time.monotonic()
            call = nb.begin(*self._port(endpoint))
            sb.until(lambda row: row.get("logical_port") == endpoint.id)
            sb.transact(_claim(endpoint, chassis))
            nb.results(call)
            values = [self.monitor.complete(began)]
        self._settle()
        began = time.monotonic()
        self._delete(endpoint)
        values.append(self.monitor.complete(began))
        self._settle()
        return values

    def rule(self, number: int) -> Sample:
        """From the transaction in the northbound database, which is all that a client of OVN's can send."""
        began = time.monotonic()
        self._change(number + 1)
        milliseconds = self.monitor.complete(began)
        self._settle()
        return {"written": milliseconds, "requested": milliseconds}

    def _change(self, number: int) -> None:
        match = self._acl(2, rules(number)[2])["match"]
        with self._northbound() as nb:
            nb.transact(db.update("ACL", ("external_ids", db.as_map({"number": "2"})), match=match))

    def restart(self) -> Sample:
        """From the start of the process until it reports that its switch has the newest configuration, one that it has not seen."""
        with pinging(self.near, self.target) as ended:
            control = f"{self.h1.directory}/ovn-controller.ctl"
            run.sh(*self.programs.command("ovn-appctl", "-t", control, "exit", "--restart"))
            pid = run.pid_of(self.plan, "h1", "ovn-controller")
            _until(lambda: pid is None or not run.lives(pid))
            run.stop_process(self.plan, "h1", "ovn-controller")
            self._change(0)
            self._change(1)
            number = self._configure()
            began = time.monotonic()
            self._controller(self.h1)
            self._until_done(self.h1, number)
            seconds = time.monotonic() - began
            started = run.pid_of(self.plan, "h1", "ovn-controller") or 0
            return {"current": seconds, "processor": processor_ms(started) / 1000, "lost": ended()}

    def memory(self) -> Sample:
        """Bytes of its processes."""
        host = pss(str(run.pid_of(self.plan, "h1", "ovn-controller")))
        return {"host": host, "central": sum(pss(str(run.pid_of(self.plan, "", name))) for name in CENTRAL)}

    def pids(self) -> list[int]:
        """Databases and northd, and of each host controller and Open vSwitch."""
        pids = [run.pid_of(self.plan, "", name) for name in CENTRAL]
        for host in self.plan.hosts:
            pids += [run.pid_of(self.plan, host.name, name) for name in ("ovsdb", "ovs", "ovn-controller")]
        return [pid for pid in pids if pid is not None]

    def flows(self) -> int:
        """How many flows h1 has."""
        command = ["ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", f"unix:{self.h1.directory}/br-int.mgmt"]
        return len(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def _chassis(number: int) -> tuple[Operation, Operation]:
    name, encap = f"ghost{number}", f"encap{number}"
    tunnel = db.insert(
        "Encap", encap, type="geneve", ip=str(FIRST_VTEP + number), chassis_name=name, options=db.as_map({"csum": "true"})
    )
    return tunnel, db.insert("Chassis", name=name, hostname=name, encaps=db.as_set([db.named(encap)]))


def _claim(endpoint: Endpoint, chassis: dict[str, str]) -> Operation:
    return db.update("Port_Binding", ("logical_port", endpoint.id), chassis=["uuid", chassis[endpoint.host]], up=True)


def _interface(endpoint: Endpoint) -> str:
    return "p" + str(endpoint.mac_address).replace(":", "")


def _pair(endpoint: Endpoint, netns: str) -> Desired:
    """The veth pair: no agent of OVN's makes one, so it is made by the code of Warren's."""
    addresses = (ip_interface(f"{endpoint.ipv4_address}/15"), ip_interface(f"{endpoint.ipv6_address}/64"))
    return Desired(
        veth=_interface(endpoint),
        netns=f"/run/netns/{netns}",
        mac=str(endpoint.mac_address),
        mtu=MTU,
        addresses=addresses,
        offload_off=True,
    )


def _plug(endpoint: Endpoint) -> tuple[Operation, ...]:
    """The operations of `ovs-vsctl add-port` with the logical port's name."""
    name = _interface(endpoint)
    return (
        db.insert("Interface", "interface", name=name, external_ids=db.as_map({"iface-id": endpoint.id})),
        db.insert("Port", "port", name=name, interfaces=db.named("interface")),
        db.mutate("Bridge", ("name", "br-int"), "ports", "insert", db.as_set([db.named("port")])),
        db.mutate("Open_vSwitch", None, "next_cfg", "+=", 1),
    )


def _until(holds: object, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise run.LabError(f"OVN's side does not get on within {timeout_s:g} s")
        time.sleep(0.005)
